//! Keys that are set elsewhere than in the file.

use settings::{Entry, Kind, Override, read_with};

#[derive(Debug, Default, PartialEq)]
struct Read {
    number: u32,
    text: String,
    list: Vec<String>,
    on: bool,
}

fn set(key: &str, value: &str) -> Override {
    Override {
        name: format!("--set {key}"),
        path: key.split('.').map(str::to_owned).collect(),
        value: value.into(),
    }
}

fn read(text: &str, overrides: &[Override]) -> Result<(Read, Vec<Entry>), Vec<String>> {
    let mut read = Read::default();
    let entries = read_with("f.toml", text, overrides, |top| {
        top.boolean("on", &mut read.on);
        read.list = top.strings("list").into_iter().map(|(text, _)| text).collect();
        top.table_or_defaults("part", |part| {
            part.number("number", 1, 9, &mut read.number);
            part.string_into("text", &mut read.text);
        });
    })?;
    Ok((read, entries))
}

#[test]
fn what_is_set_elsewhere_counts_and_the_last_counts_most() {
    let text = "on = false\n[part]\nnumber = 1\ntext = \"a\"";
    let overrides = [
        set("part.number", "2"),
        set("part.number", "3"),
        set("on", "true"),
        set("list", "[\"x\", \"y\"]"),
    ];
    let (found, entries) = read(text, &overrides).unwrap();
    let wanted = Read { number: 3, text: "a".into(), list: vec!["x".into(), "y".into()], on: true };
    assert_eq!(found, wanted);
    let told: Vec<_> = entries
        .iter()
        .map(|entry| {
            let place = entry.place.as_deref().unwrap_or("default");
            format!("{} = {} # {place}", entry.path, entry.value.as_deref().unwrap_or("nothing"))
        })
        .collect();
    assert_eq!(
        told,
        [
            "on = true # --set on",
            "list = [\"x\", \"y\"] # --set list",
            "part.number = 3 # --set part.number",
            "part.text = \"a\" # f.toml:4:8",
        ]
    );
    assert_eq!(entries[2].kind, Kind::Number { least: 1, most: 9 });
}

#[test]
fn strings_need_no_quotes_elsewhere_and_keys_no_table() {
    for (value, wanted) in [("plain words", "plain words"), ("\"quoted\"", "quoted"), ("12", "12")]
    {
        let (found, _) = read("", &[set("part.text", value)]).unwrap();
        assert_eq!(found.text, wanted, "{value}");
    }
    let (found, _) = read("", &[set("list", "tcp://[::1]:1")]).unwrap();
    assert_eq!(found.list, ["tcp://[::1]:1"]);
    let (found, _) = read("", &[set("part.text", "1\ny = 2")]).unwrap();
    assert_eq!(found.text, "1\ny = 2", "nothing slips in by a line break");
}

#[test]
fn problems_name_what_set_the_key() {
    let overrides =
        [set("part.number", "10"), set("part.numbr", "1"), set("on.off", "1"), set("list", "1")];
    let problems = read("on = 3\n[part]\nnumber = 77", &overrides).unwrap_err();
    assert_eq!(
        problems,
        [
            "f.toml:1:6: `on` must be true or false, not a number",
            "--set part.number: `number` must be 1 to 9, not 10",
            "--set part.numbr: unknown key `numbr` in [part]; did you mean `number`?",
            "--set on.off: `on` is no table, so nothing in it can be set",
            "--set list: `list` must be a list of strings, not a number",
        ]
    );
}

#[test]
fn keys_that_are_not_there_are_known_too() {
    let (_, entries) = read("", &[]).unwrap();
    assert!(entries.iter().all(|entry| entry.place.is_none()));
    let paths: Vec<_> = entries.iter().map(|entry| entry.path.as_str()).collect();
    assert_eq!(paths, ["on", "list", "part.number", "part.text"]);
    assert_eq!(entries[2].value, None, "0 is no number of that range");
}
