//! Completions for bash, zsh and fish. Names of integrations, devices and functions are read from the config.

use crate::help::{CommandHelp, Help, OptionOf};

/// Options that every command takes.
const EVERYWHERE: [(&str, &str); 2] = [("config", "the config"), ("verbose", "log more")];

/// Finds the names of the tables `[KIND.NAME]` of the config; sh, with `$1` for KIND.
const NAMES: &str = r#"sed -n "s/^[[:space:]]*\[$1\.\([A-Za-z0-9_-]*\).*/\1/p" /etc/packhorse/packhorse.toml 2>/dev/null | sort -u"#;

fn commands(help: &Help) -> String {
    help.commands.iter().map(|command| command.name.as_str()).collect::<Vec<_>>().join(" ")
}

fn dashed<'a>(options: impl Iterator<Item = &'a str>) -> String {
    options.map(|name| format!("--{name}")).collect::<Vec<_>>().join(" ")
}

/// What a command takes beside [`EVERYWHERE`].
fn own_options(command: &CommandHelp) -> impl Iterator<Item = &OptionOf> {
    command.options.iter().filter(|option| EVERYWHERE.iter().all(|(name, _)| *name != option.name))
}

/// The table of which a command's word names one.
fn table_of(command: &CommandHelp) -> Option<&'static str> {
    match command.word.as_deref() {
        Some("INTEGRATION") => Some("integration"),
        Some("FUNCTION") => Some("function"),
        _ => None,
    }
}

/// One line a command: what stands behind it, in the words of a shell.
fn cases(help: &Help, line: impl Fn(&CommandHelp, Option<Word>) -> String) -> String {
    let words = commands(help);
    let examples = help.examples.join(" ");
    let word_of = |command: &CommandHelp| {
        if !command.verbs.is_empty() {
            return Some(Word::OneOf(command.verbs.join(" ")));
        }
        let by_table = table_of(command).map(Word::Table);
        by_table.or_else(|| match command.word.as_deref() {
            Some("NAME") => Some(Word::OneOf(examples.clone())),
            Some("COMMAND") => Some(Word::OneOf(words.clone())),
            Some(_) => Some(Word::File),
            None => None,
        })
    };
    help.commands.iter().map(|command| line(command, word_of(command))).collect()
}

enum Word {
    Table(&'static str),
    OneOf(String),
    File,
}

pub(crate) fn bash(help: &Help) -> String {
    let everywhere = dashed(EVERYWHERE.iter().map(|(name, _)| *name));
    let cases = cases(help, |command, word| {
        let options = dashed(own_options(command).map(|option| option.name.as_str()));
        let words = match word {
            Some(Word::Table(table)) => format!(" words=$(_packhorse_names {table})"),
            Some(Word::OneOf(names)) => format!(" words=\"{names}\""),
            Some(Word::File) => " words=$(compgen -f -- \"$current\")".to_owned(),
            None => String::new(),
        };
        format!("    {}) options=\"{options}\"{words} ;;\n", command.name)
    });
    let valued = valued(help);
    format!(
        r#"# Completion of packhorse for bash. Made of the program's help texts by tests/manual.

_packhorse_names() {{
  {NAMES}
}}

_packhorse() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD - 1]}}
  local command='' options='' words='' i
  for ((i = 1; i < COMP_CWORD; i++)); do
    case ${{COMP_WORDS[i]}} in
      --config) ((i++)) ;;
      -*) ;;
      *) command=${{COMP_WORDS[i]}}; break ;;
    esac
  done
  case $previous in
    --config) mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
    {valued}) return ;;
  esac
  case $command in
    '') words="{commands}" ;;
{cases}  esac
  case $current in
    -*) words="$options {everywhere}" ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}}
complete -F _packhorse packhorse
"#,
        commands = commands(help)
    )
}

/// The options behind which a value stands that nobody can guess.
fn valued(help: &Help) -> String {
    let mut names: Vec<String> = Vec::new();
    for option in help.commands.iter().flat_map(|command| &command.options) {
        let name = format!("--{}", option.name);
        if option.value.is_some() && option.name != "config" && !names.contains(&name) {
            names.push(name);
        }
    }
    names.join(" | ")
}

pub(crate) fn zsh(help: &Help) -> String {
    let option = |option: &OptionOf| match &option.value {
        Some(value) => format!(" '--{}[{value}]:{value}: '", option.name),
        None => format!(" '--{}'", option.name),
    };
    let cases = cases(help, |command, word| {
        let options: String = own_options(command).map(option).collect();
        let word = match word {
            Some(Word::Table(table)) => format!(" '2:{table}:_packhorse_names {table}'"),
            Some(Word::OneOf(names)) => format!(" '2:name:({names})'"),
            Some(Word::File) => " '2:file:_files'".to_owned(),
            None => String::new(),
        };
        format!("    {}) _arguments $everywhere '1: :'{options}{word} ;;\n", command.name)
    });
    let described: String = help
        .commands
        .iter()
        .map(|command| {
            format!("    '{}:{}'\n", command.name, command.summary.replace('\'', "'\\''").replace(':', "\\:"))
        })
        .collect();
    format!(
        r#"#compdef packhorse
# Completion of packhorse for zsh. Made of the program's help texts by tests/manual.

_packhorse_names() {{
  local -a names
  names=($({NAMES}))
  compadd -a names
}}

_packhorse() {{
  local -a commands everywhere
  commands=(
{described}  )
  everywhere=('--config[{config}]:file:_files' '--verbose[{verbose}]')
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  case $words[2] in
{cases}  esac
}}

_packhorse "$@"
"#,
        config = EVERYWHERE[0].1,
        verbose = EVERYWHERE[1].1,
    )
}

pub(crate) fn fish(help: &Help) -> String {
    let mut text = String::from(
        "# Completion of packhorse for fish. Made of the program's help texts by tests/manual.\n\n\
         function __packhorse_names\n    ",
    );
    text.push_str(&NAMES.replace("$1", "$argv[1]"));
    text.push_str("\nend\n\ncomplete -c packhorse -f\n");
    for (name, what) in EVERYWHERE {
        let value = if name == "config" { " -r -F" } else { "" };
        text.push_str(&format!("complete -c packhorse -l {name}{value} -d '{what}'\n"));
    }
    for command in &help.commands {
        let summary = command.summary.replace('\'', "\\'");
        text.push_str(&format!(
            "complete -c packhorse -n __fish_use_subcommand -a {} -d '{summary}'\n",
            command.name
        ));
    }
    text.push_str(&cases(help, |command, word| {
        let seen = format!("complete -c packhorse -n '__fish_seen_subcommand_from {}'", command.name);
        let mut lines = match word {
            Some(Word::Table(table)) => format!("{seen} -a '(__packhorse_names {table})'\n"),
            Some(Word::OneOf(names)) => format!("{seen} -a '{names}'\n"),
            Some(Word::File) => format!("{seen} -F\n"),
            None => String::new(),
        };
        for option in own_options(command) {
            let value = option.value.as_ref().map_or_else(String::new, |value| format!(" -x -d '{value}'"));
            lines.push_str(&format!("{seen} -l {}{value}\n", option.name));
        }
        lines
    }));
    text
}
