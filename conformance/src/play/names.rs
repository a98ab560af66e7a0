//! The root that keeps a live run's names apart from everything else on the broker, and the user
//! name that the broker knows it by.

use bytes::Bytes;

/// Puts the root before names on their way out and takes it off in what is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    root: String,
    login: Option<Login>,
}

/// What a client says of itself that has no user name of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The user name.
    pub user: String,
    /// The password.
    pub password: Option<String>,
}

impl Names {
    /// Names go out as written.
    pub fn exact() -> Self {
        Self::default()
    }

    /// Names go out under this root, which has to be unique and of letters and digits.
    pub fn under(root: impl Into<String>) -> Self {
        Self { root: root.into(), login: None }
    }

    /// The same, for a broker that demands a user name.
    pub fn with_login(self, login: Option<Login>) -> Self {
        Self { login, ..self }
    }

    /// The user name and password of a client that has none of its own.
    pub fn login(&self) -> (Option<Box<str>>, Option<Bytes>) {
        let Some(Login { user, password }) = &self.login else { return (None, None) };
        (Some(user.as_str().into()), password.clone().map(Bytes::from))
    }

    /// A Topic Name, or an ordinary Topic Filter, as it goes out.
    pub fn topic(&self, topic: &str) -> String {
        if self.root.is_empty() || topic.is_empty() || topic.starts_with('$') {
            return topic.to_owned();
        }
        format!("{}/{topic}", self.root)
    }

    /// A Topic Filter as it goes out; of a shared one the part behind the ShareName changes.
    pub fn filter(&self, filter: &str) -> String {
        match filter.strip_prefix("$share/").and_then(|shared| shared.split_once('/')) {
            Some((group, filter)) => format!("$share/{group}/{}", self.topic(filter)),
            None => self.topic(filter),
        }
    }

    /// A Client Identifier as it goes out.
    pub fn client_id(&self, id: &str) -> String {
        if id.is_empty() {
            return String::new();
        }
        format!("{}{id}", self.root)
    }

    /// A text that came in, as it is shown: without the root wherever it stands.
    pub fn shown(&self, text: &str) -> String {
        if self.root.is_empty() {
            return text.to_owned();
        }
        text.replace(&format!("{}/", self.root), "").replace(&self.root, "")
    }
}

#[cfg(test)]
mod tests {
    use super::Names;

    #[test]
    fn the_root_is_the_first_level_of_a_topic() {
        let names = Names::under("R");
        let filters =
            ["a/b", "/a", "#", "+/x", "$share/g/a/+", "$share/g/", "$share/g", "$SYS/#", ""];
        let rooted: Vec<_> = filters.iter().map(|filter| names.filter(filter)).collect();
        assert_eq!(
            rooted,
            [
                "R/a/b",
                "R//a",
                "R/#",
                "R/+/x",
                "$share/g/R/a/+",
                "$share/g/",
                "$share/g",
                "$SYS/#",
                ""
            ]
        );
        for (filter, rooted) in filters.iter().zip(&rooted) {
            assert_eq!(names.shown(rooted), *filter);
        }
    }
}
