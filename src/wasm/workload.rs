//! Which component of a workload takes a request: by the path, in the syntax of `matchit`.

use super::settings::{ComponentId, Workload};

/// The components of one workload, by path. One without any is a router, too.
#[derive(Clone)]
pub struct Router {
    paths: matchit::Router<ComponentId>,
    rest: Option<ComponentId>,
    is_empty: bool,
}

/// Why two paths cannot be told apart.
#[derive(Debug, PartialEq, Eq)]
pub enum PathFault {
    /// Another path takes the same requests.
    Taken(String),
    Malformed(String),
}

/// Why no component takes a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unrouted {
    NoComponents,
    NoMatch,
}

/// Whether these paths can be told apart; else the number of the first that cannot.
///
/// # Errors
/// A path is taken, or is none.
pub fn check_paths<'a>(paths: impl Iterator<Item = &'a str>) -> Result<(), (usize, PathFault)> {
    let mut router = matchit::Router::new();
    for (number, path) in paths.enumerate() {
        router.insert(path, ()).map_err(|error| {
            let fault = match error {
                matchit::InsertError::Conflict { with } => PathFault::Taken(with),
                other => PathFault::Malformed(other.to_string()),
            };
            (number, fault)
        })?;
    }
    Ok(())
}

impl Router {
    /// # Errors
    /// The paths were not checked.
    pub fn new(workload: &Workload) -> Result<Router, String> {
        let mut paths = matchit::Router::new();
        for (path, component) in &workload.paths {
            paths.insert(path, *component).map_err(|error| format!("path `{path}`: {error}"))?;
        }
        let is_empty = workload.paths.is_empty() && workload.rest.is_none();
        Ok(Router { paths, rest: workload.rest, is_empty })
    }

    /// The component that takes a path in normal form. What the path has in place of the names of
    /// its pattern is appended to `captured`, as in a query: `id=42&rest=a/b`; as it is written in
    /// the path, with its escapes.
    ///
    /// # Errors
    /// No component takes it.
    pub fn choose(&self, path: &[u8], captured: &mut Vec<u8>) -> Result<ComponentId, Unrouted> {
        let found = std::str::from_utf8(path).ok().and_then(|path| self.paths.at(path).ok());
        if let Some(found) = found {
            for (name, value) in found.params.iter() {
                if !captured.is_empty() {
                    captured.push(b'&');
                }
                captured.extend_from_slice(name.as_bytes());
                captured.push(b'=');
                push_escaped(captured, value);
            }
            return Ok(*found.value);
        }
        match self.rest {
            Some(component) => Ok(component),
            None if self.is_empty => Err(Unrouted::NoComponents),
            None => Err(Unrouted::NoMatch),
        }
    }
}

/// What is allowed in a path and means something in a query.
fn push_escaped(out: &mut Vec<u8>, value: &str) {
    for byte in value.bytes() {
        match byte {
            b'&' => out.extend_from_slice(b"%26"),
            b'=' => out.extend_from_slice(b"%3D"),
            b'+' => out.extend_from_slice(b"%2B"),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router(paths: &[&str], rest: Option<u32>) -> Router {
        let paths = paths.iter().zip(0..).map(|(path, id)| ((*path).to_owned(), ComponentId(id)));
        let workload = Workload { name: "w".to_owned(), paths: paths.collect(), rest: rest.map(ComponentId) };
        Router::new(&workload).unwrap()
    }

    #[track_caller]
    fn check(router: &Router, path: &str, expected: Result<(u32, &str), Unrouted>) {
        let mut captured = Vec::new();
        let chosen = router.choose(path.as_bytes(), &mut captured);
        let captured = String::from_utf8(captured).unwrap();
        assert_eq!(chosen.map(|id| (id.0, captured.as_str())), expected, "{path}");
    }

    #[test]
    fn components_are_chosen_by_path() {
        let paths = ["/user/{id}", "/admin", "/user/me", "/files/{name}/{*rest}"];
        let chosen = router(&paths, None);
        let cases = [
            ("/user/42", Ok((0, "id=42"))),
            ("/user/a%2Fb", Ok((0, "id=a%2Fb"))),
            ("/user/me", Ok((2, ""))),
            ("/admin", Ok((1, ""))),
            ("/files/x/a/b&c=d", Ok((3, "name=x&rest=a/b%26c%3Dd"))),
            ("/admin/", Err(Unrouted::NoMatch)),
            ("/user/1/2", Err(Unrouted::NoMatch)),
            ("/", Err(Unrouted::NoMatch)),
        ];
        for (path, expected) in cases {
            check(&chosen, path, expected);
        }
        check(&router(&paths, Some(7)), "/admin/", Ok((7, "")));
    }

    #[test]
    fn an_empty_router_says_so() {
        check(&router(&[], None), "/", Err(Unrouted::NoComponents));
        check(&router(&[], Some(0)), "/", Ok((0, "")));
    }

    #[test]
    fn the_same_path_twice_is_found_with_the_other_one() {
        let cases = [
            (vec!["/a", "/b"], Ok(())),
            (vec!["/user/{id}", "/user/me"], Ok(())),
            (vec!["/a", "/b", "/a"], Err((2, PathFault::Taken("/a".to_owned())))),
            (vec!["/user/{id}", "/user/{name}"], Err((1, PathFault::Taken("/user/{id}".to_owned())))),
        ];
        for (paths, expected) in cases {
            assert_eq!(check_paths(paths.iter().copied()), expected, "{paths:?}");
        }
        let malformed = check_paths(["/{a}{b}"].into_iter());
        assert!(matches!(malformed, Err((0, PathFault::Malformed(_)))));
    }
}
