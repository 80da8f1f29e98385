//! More than one file: device files, unusable files, and the file that packages install.

use packhorse::config::{Config, Loaded, Source, SourceKind};

use super::{EXAMPLE, Folder, loaded, parse, shown};

#[test]
fn device_files_add_devices_and_are_located() {
    let folder = Folder::new();
    folder.write("packhorse.toml", "device_files = [\"devices.d/*.toml\", \"devices.d/a.toml\"]\n[[device]]\nname = \"main\"\ndev_addr = \"00000001\"\n");
    folder.write("devices.d/b.toml", "[[device]]\nname = \"b\"\ndev_addr = \"00000002\"\n");
    folder.write(
        "devices.d/a.toml",
        "[[device]]\nname = \"a\"\ndev_addr = \"00000003\"\nnwk_s_key = { file = \"secrets/silo-7.nwk\" }\n",
    );
    folder.write("devices.d/a.toml~", "not toml");
    folder.write("devices.d/.a.toml", "not toml");
    let main = folder.path("packhorse.toml");
    let Loaded { config, warnings } = loaded(Config::load(&main));
    assert!(warnings.is_empty(), "{}", shown(&warnings));
    let names: Vec<&str> = config.devices.iter().map(|device| device.name.as_str()).collect();
    assert_eq!(names, ["main", "a", "b"]);

    folder.write("devices.d/b.toml", "[[device]]\nname = \"main\"\ndev_addr = \"zz\"\n[spool]\n");
    let problems = Config::load(&main).err().unwrap();
    let found: Vec<_> = problems
        .iter()
        .map(|problem| {
            let place = problem.place.as_ref().unwrap();
            assert_eq!(&*place.file, folder.path("devices.d/b.toml"));
            (place.line, problem.key.as_str())
        })
        .collect();
    assert_eq!(
        found,
        [(2, "device.main.name"), (3, "device.main.dev_addr"), (4, "spool")],
        "{}",
        shown(&problems)
    );

    folder.write("devices.d/b.toml", [b'\n', 0xff]);
    let problems = Config::load(&main).err().unwrap();
    assert!(shown(&problems).contains("is not UTF-8 text: see line 2"), "{}", shown(&problems));
}

#[test]
fn an_unusable_file_is_named() {
    let folder = Folder::new();
    folder.write("binary.toml", [b'a', 0xff]);
    for (name, word) in
        [("none.toml", "cannot be read"), ("", "cannot be read"), ("binary.toml", "see line 1")]
    {
        let path = folder.path(name);
        let problems = Config::load(&path).err().unwrap();
        let text = shown(&problems);
        assert!(
            text.contains(word) && text.contains(path.to_str().unwrap()) && text.contains("--config"),
            "{text}"
        );
    }
}

#[test]
fn the_installed_file_is_right_as_it_is_and_with_every_line_switched_on() {
    let text = include_str!("../../config/packhorse.toml");
    let Loaded { config, warnings } = loaded(parse(text));
    assert!(warnings.is_empty(), "{}", shown(&warnings));
    assert!(matches!(config.sources.as_slice(), [Source { kind: SourceKind::SemtechUdp(_), .. }]));
    assert!(config.integrations.is_empty() && config.flows.is_empty() && config.devices.is_empty());

    // What is off is a key or a table behind "# ".
    let is_toml = |line: &str| {
        let key = line.split(" = ").next().unwrap_or_default();
        let bare = key.len() < line.len() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        bare || line.starts_with('[')
    };
    let on: String = text
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|rest| is_toml(rest)).unwrap_or(line))
        .fold(String::new(), |all, line| all + line + "\n");
    let folder = Folder::new();
    folder.write("devices.d/more.toml", "");
    let Loaded { config, warnings } = loaded(folder.parse(&on));
    assert_eq!((config.sources.len(), config.integrations.len(), config.flows.len()), (3, 2, 1));
    let lines = shown(&warnings);
    assert!(warnings.len() == 1 && lines.contains("format has no effect"), "{lines}");
    // Every key of the design's example is in the installed file.
    for (key, _) in EXAMPLE.lines().filter_map(|line| line.split_once(" = ")) {
        assert!(on.lines().any(|line| line.starts_with(key)), "{key} is not in config/packhorse.toml");
    }
}
