//! Who may connect, and do what.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{
    Kind, Note,
    draft::{Access, quoted},
};

/// Everything may be done, as mosquitto has it without an `acl_file`.
const ALLOW_ALL: &str = "\
# Everybody who is let in may do everything, as in mosquitto without an acl_file. docs/security.md says how to allow less.
[[rule]]
allow = [\"publish\", \"subscribe\"]
topics = \"#\"

[[rule]]
allow = \"subscribe\"
topics = \"$SYS/#\"
";

/// Who may connect at a listener.
pub(super) struct Wish {
    /// Where the listener stands.
    pub(super) place: String,
    pub(super) access: Access,
    pub(super) by_certificate: bool,
    /// Only this machine can reach it.
    pub(super) is_private: bool,
}

/// What comes of it.
#[derive(Default)]
pub(super) struct Granted {
    /// Keys before the first table.
    pub(super) top: String,
    /// `[access]` and its providers.
    pub(super) access: String,
    /// For each listener who is asked there; absent: everybody.
    pub(super) providers: Vec<Option<Vec<String>>>,
    /// A file of rules.
    pub(super) rules: Option<String>,
}

impl Wish {
    /// mosquitto lets nobody in without a name if a listener is written down, and everybody of the machine if none is:
    /// then there is no place.
    fn lets_everybody_in(&self) -> bool {
        self.access.anonymous.unwrap_or(self.place.is_empty())
    }

    fn is_open(&self) -> bool {
        let Access { passwords, acl, no_rights, .. } = &self.access;
        let is_plain = passwords.is_none() && acl.is_none() && !no_rights;
        self.lets_everybody_in() && is_plain && !self.by_certificate
    }

    /// Who is asked, by name, and what each is.
    fn providers(&self) -> Vec<(String, String)> {
        // The certificate is the only name there is.
        if self.by_certificate {
            let body = "kind = \"x509\"\ndepth = 0\nrequired = true\n";
            return vec![("certificates".to_owned(), body.to_owned())];
        }
        let mut providers = Vec::new();
        if let Some(path) = &self.access.passwords {
            let body = format!("kind = \"password\"\nfile = {}\n", quoted(path));
            providers.push((format!("passwords {path}"), body));
        }
        if self.lets_everybody_in() {
            providers.push(("everybody".to_owned(), "kind = \"anonymous\"\n".to_owned()));
        }
        providers
    }

    fn note(&self, kind: Kind, text: &str) -> Note {
        Note { place: self.place.clone(), kind, text: text.to_owned() }
    }
}

/// Grants what all listeners wish; `rules` is the name of the file of rules, if one is needed.
pub(super) fn grant(wishes: &[Wish], rules: &str, notes: &mut Vec<Note>) -> Granted {
    if wishes.iter().all(Wish::is_open) {
        return open_to_all(wishes, notes);
    }
    let mut granted = Granted { access: "\n[access]\n".to_owned(), ..Granted::default() };
    let acls: Vec<&String> = wishes.iter().filter_map(|wish| wish.access.acl.as_ref()).collect();
    if wishes.iter().any(|wish| wish.access.no_rights) {
        granted
            .access
            .push_str("# Nobody may do anything until rules are written; see docs/security.md.\n");
    } else if let Some(acl) = acls.first() {
        let acl = quoted(acl);
        let _ = writeln!(granted.access, "mosquitto_acl = {acl}\nsubscribe = \"as_mosquitto\"");
    } else {
        let _ = writeln!(granted.access, "rules = {}", quoted(rules));
        granted.rules = Some(ALLOW_ALL.to_owned());
    }
    let differ = acls.iter().any(|acl| Some(acl) != acls.first()) || acls.len() < wishes.len();
    if let Some(wish) = wishes.first().filter(|_| !acls.is_empty() && differ) {
        let text = "acl_file: one file holds for all listeners here, which is the first; rules can name listeners";
        notes.push(wish.note(Kind::Lost, text));
    }
    let mut providers = BTreeMap::new();
    for wish in wishes {
        let of_listener = wish.providers();
        if of_listener.is_empty() {
            let text = "nobody may connect here, since neither allow_anonymous nor a password_file lets anybody in; as in mosquitto";
            notes.push(wish.note(Kind::Differs, text));
        }
        let names = of_listener.iter().map(|(name, _)| name.clone()).collect();
        granted.providers.push(Some(names));
        providers.extend(of_listener);
    }
    for (name, body) in providers {
        let name = quoted(&name);
        let _ = write!(granted.access, "\n[[access.provider]]\nname = {name}\n{body}");
    }
    granted
}

fn open_to_all(wishes: &[Wish], notes: &mut Vec<Note>) -> Granted {
    let mut granted = Granted { providers: vec![None; wishes.len()], ..Granted::default() };
    if let Some(wish) = wishes.iter().find(|wish| !wish.is_private) {
        granted.top.push_str(
            "\n# Everybody who reaches the broker may do everything, as it was in mosquitto.\n\
             allow_anonymous = true\n",
        );
        let text = "allow_anonymous: everybody from other machines may connect and do everything, as before; [access] would change that";
        notes.push(wish.note(Kind::Differs, text));
    }
    granted
}
