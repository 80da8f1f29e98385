//! Man pages: the help texts, and the annotated config, as they are, between a few words of roff.

use crate::help::Help;

pub(crate) fn packhorse(help: &Help) -> String {
    let mut page = String::from(
        ".\\\" Made of the program's help texts by tests/manual.\n\
         .TH PACKHORSE 1 \"\" Packhorse \"User Commands\"\n\
         .SH NAME\npackhorse \\- keeps LoRaWAN uplinks until HTTP and MQTT integrations have them\n\
         .SH SYNOPSIS\n.B packhorse\n.I COMMAND\n[\\fB\\-\\-config\\fR \\fIFILE\\fR]\n\
         .SH DESCRIPTION\n",
    );
    page.push_str(&verbatim(&help.overview));
    page.push_str(".SH COMMANDS\n");
    let mut said: Vec<&str> = Vec::new();
    for command in help.commands.iter().filter(|command| !command.text.is_empty()) {
        // Some commands share a text.
        if !said.contains(&command.text.as_str()) {
            said.push(&command.text);
            page.push_str(&format!(".SS {}\n{}", escaped(&command.name), verbatim(&command.text)));
        }
    }
    page.push_str(
        ".SH ENVIRONMENT\n.TP\n.B PACKHORSE_LOG\nWhat is logged: \\fBwarn\\fR, \\fBinfo\\fR, \\fBdebug\\fR, or a list such as\n\
         \\fBinfo,packhorse::integration=trace\\fR.\n\
         .SH FILES\n\
         .TP\n.I /etc/packhorse/packhorse.toml\nThe config. See\n.BR packhorse.toml (5).\n\
         .TP\n.I /var/lib/packhorse/spool.redb\nThe spool: what waits, dead letters, what was lost.\n\
         .TP\n.I /run/packhorse/control.sock\nWhere the agent answers the other commands; for its user and group.\n\
         .SH SEE ALSO\n.BR packhorse.toml (5)\n",
    );
    page
}

pub(crate) fn packhorse_toml(config: &str) -> String {
    format!(
        ".\\\" Made of config/packhorse.toml by tests/manual.\n\
         .TH PACKHORSE.TOML 5 \"\" Packhorse \"File Formats\"\n\
         .SH NAME\npackhorse.toml \\- config of the agent packhorse\n\
         .SH DESCRIPTION\nThe file is TOML. \\fBpackhorse check\\fR names every mistake with its line.\n\
         This is the default, with every key:\n.PP\n{}\
         .SH SEE ALSO\n.BR packhorse (1)\n",
        verbatim(config)
    )
}

fn verbatim(text: &str) -> String {
    let mut page = String::from(".EX\n");
    for line in text.trim_end().lines() {
        // A control character of roff at the start of a line would be taken for a request.
        if line.starts_with(['.', '\'']) {
            page.push_str("\\&");
        }
        page.push_str(&escaped(line));
        page.push('\n');
    }
    page.push_str(".EE\n");
    page
}

fn escaped(line: &str) -> String {
    let plain = line.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq").replace('`', "\\(ga");
    plain.replace('^', "\\(ha").replace('~', "\\(ti").replace('…', "...")
}
