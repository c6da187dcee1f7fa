//! [`Router`]: which route a method and a path belong to.
//!
//! A tree with one node per segment of a path. The segments of a node's children are sorted, so a
//! look-up costs a few comparisons per segment however many routes there are.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;

use eserver_wire::http::{BadRequest, decode_path};
use thiserror::Error;

/// Routes by method and path.
///
/// A path is what stands between slashes: `/items/{id}` has a parameter, and `/files/{*path}` takes
/// all that follows, slashes and all. Where several routes fit, a plain segment comes before a
/// parameter and a parameter before a rest. A slash at the end counts: `/a` and `/a/` differ.
#[derive(Debug)]
pub(crate) struct Router<T> {
    root: Node<T>,
    /// Every method of any route, as `OPTIONS *` is answered.
    methods: Vec<Box<str>>,
}

/// Where a request belongs.
#[derive(Debug)]
pub(crate) enum Found<'r, 'p, T> {
    /// A route, and what its parameters stand for, decoded, in the order of the path.
    Route(&'r T, Params<'p>),
    /// The path is known and not for this method; the methods that it is for.
    OtherMethods(&'r str),
    /// No route has this path.
    Nothing,
    /// The path cannot be decoded.
    Bad(BadRequest),
}

/// The parameters of a path.
#[derive(Debug, Default)]
pub(crate) struct Params<'p> {
    /// `None` if there are none.
    names: Option<Names>,
    values: Vec<Cow<'p, str>>,
}

type Names = Arc<[Box<str>]>;

/// A route that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadRoute {
    /// The path is not of the form that paths of routes have.
    #[error("{path:?} cannot be a route: {reason}")]
    Path {
        /// The path as it was given.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The method is not one.
    #[error("{0:?} is not a method that can have a route")]
    Method(String),
    /// Another route answers the same requests.
    #[error("{method} {path} is there twice")]
    Twice {
        /// The method of both.
        method: String,
        /// The path of the later one.
        path: String,
    },
    /// Its concurrency is bounded, and its handler answers in place or has others answer.
    #[error("the concurrency of {0} cannot be bounded: only handlers that wait have such a bound")]
    Concurrency(String),
}

#[derive(Debug)]
struct Node<T> {
    /// Sorted by segment.
    plain: Vec<(Box<str>, Node<T>)>,
    param: Option<Box<Node<T>>>,
    rest: Option<Box<Node<T>>>,
    ends: Vec<End<T>>,
    /// The methods of `ends` and those that follow from them, as the field Allow has it.
    allow: String,
}

/// A route that ends at a node.
#[derive(Debug)]
struct End<T> {
    method: Box<str>,
    names: Option<Names>,
    route: T,
}

/// A segment of a route's path.
enum Segment<'a> {
    Plain(&'a str),
    Param(&'a str),
    Rest(&'a str),
}

impl<T> Router<T> {
    pub(crate) fn new() -> Self {
        Router { root: Node::new(), methods: Vec::new() }
    }

    /// Adds a route.
    ///
    /// # Errors
    /// [`BadRoute`] when the path is malformed or the route is there already.
    pub(crate) fn insert(&mut self, method: &str, path: &str, route: T) -> Result<(), BadRoute> {
        let is_method = !method.is_empty()
            && method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-')
            && !matches!(method, "CONNECT" | "TRACE");
        if !is_method {
            return Err(BadRoute::Method(method.to_owned()));
        }
        let bad = |reason| BadRoute::Path { path: path.to_owned(), reason };
        let mut names = Vec::<Box<str>>::new();
        let mut node = &mut self.root;
        let mut segments = path.strip_prefix('/').ok_or(bad("it has no / in front"))?.split('/');
        while let Some(segment) = segments.next() {
            let segment = Segment::parse(segment).map_err(bad)?;
            if let Segment::Param(name) | Segment::Rest(name) = segment {
                if names.iter().any(|other| **other == *name) {
                    return Err(bad("two of its parameters have the same name"));
                }
                names.push(name.into());
            }
            if matches!(segment, Segment::Rest(_)) && segments.next().is_some() {
                return Err(bad("nothing can follow a {*rest}"));
            }
            node = node.child(&segment);
        }
        if node.ends.iter().any(|end| *end.method == *method) {
            return Err(BadRoute::Twice { method: method.to_owned(), path: path.to_owned() });
        }
        let names = (!names.is_empty()).then(|| names.into());
        node.ends.push(End { method: method.into(), names, route });
        node.allow = allow(node.ends.iter().map(|end| &*end.method));
        if !self.methods.iter().any(|known| **known == *method) {
            self.methods.push(method.into());
        }
        Ok(())
    }

    /// The route of a request whose path, as it was sent, begins with a slash or is `*`.
    ///
    /// HEAD goes where GET does, unless it has a route of its own.
    pub(crate) fn find<'r, 'p>(&'r self, method: &str, path: &'p str) -> Found<'r, 'p, T> {
        let Some(path) = path.strip_prefix('/') else { return Found::Nothing };
        let mut values = Vec::new();
        let node = match self.root.find(Some(path), &mut values) {
            Ok(Some(node)) => node,
            Ok(None) => return Found::Nothing,
            Err(bad) => return Found::Bad(bad),
        };
        let end = |method: &str| node.ends.iter().find(|end| *end.method == *method);
        match end(method).or_else(|| if method == "HEAD" { end("GET") } else { None }) {
            Some(end) => Found::Route(&end.route, Params { names: end.names.clone(), values }),
            None => Found::OtherMethods(&node.allow),
        }
    }

    /// What the field Allow says of the server as a whole.
    pub(crate) fn allow(&self) -> String {
        allow(self.methods.iter().map(|method| &**method))
    }
}

impl Params<'_> {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let at = self.names.as_ref()?.iter().position(|other| **other == *name)?;
        Some(&self.values[at])
    }

    /// The same, which borrow nothing.
    pub(crate) fn to_owned(&self) -> Params<'static> {
        let values = self.values.iter().map(|value| Cow::Owned(value.clone().into_owned()));
        Params { names: self.names.clone(), values: values.collect() }
    }
}

impl<T> Node<T> {
    fn new() -> Self {
        let (param, rest, ends) = (None, None, Vec::new());
        Node { plain: Vec::new(), param, rest, ends, allow: String::new() }
    }

    fn child(&mut self, segment: &Segment<'_>) -> &mut Node<T> {
        match segment {
            Segment::Plain(text) => {
                let at = self.plain.binary_search_by(|(other, _)| order(other, text));
                let at = at.unwrap_or_else(|at| {
                    self.plain.insert(at, ((*text).into(), Node::new()));
                    at
                });
                &mut self.plain[at].1
            }
            Segment::Param(_) => self.param.get_or_insert_with(|| Box::new(Node::new())),
            Segment::Rest(_) => self.rest.get_or_insert_with(|| Box::new(Node::new())),
        }
    }

    /// The node where `path` ends; `None` for a path is behind its last segment. Every node is seen
    /// once at most, and the tree is as deep as the longest route.
    fn find<'p>(
        &self,
        path: Option<&'p str>,
        values: &mut Vec<Cow<'p, str>>,
    ) -> Result<Option<&Self>, BadRequest> {
        let Some(path) = path else {
            return Ok(if self.ends.is_empty() { None } else { Some(self) });
        };
        // Segments are short: one look at each byte costs less than two fast searches.
        let mut is_encoded = false;
        let slash = path.bytes().position(|byte| {
            is_encoded |= byte == b'%';
            byte == b'/'
        });
        let (segment, after) = match slash {
            Some(slash) => (&path[..slash], Some(&path[slash + 1..])),
            None => (path, None),
        };
        let segment = if is_encoded { decode_path(segment)? } else { Cow::Borrowed(segment) };
        if let Ok(at) = self.plain.binary_search_by(|(other, _)| order(other, &segment))
            && let Some(found) = self.plain[at].1.find(after, values)?
        {
            return Ok(Some(found));
        }
        if let Some(param) = self.param.as_ref().filter(|_| !segment.is_empty()) {
            values.push(segment);
            if let Some(found) = param.find(after, values)? {
                return Ok(Some(found));
            }
            values.pop();
        }
        let Some(rest) = &self.rest else { return Ok(None) };
        values.push(decode_path(path)?);
        Ok(Some(rest))
    }
}

/// The order of segments: the shorter one first.
///
/// No bytes of empty ones are looked at: an empty text may lie at an address where nothing is, and
/// the C library's comparison of no bytes there costs hundreds of cycles on a processor with
/// AVX-512, which has to suppress the fault.
fn order(one: &str, other: &str) -> Ordering {
    one.len()
        .cmp(&other.len())
        .then_with(|| if one.is_empty() { Ordering::Equal } else { one.cmp(other) })
}

impl<'a> Segment<'a> {
    fn parse(text: &'a str) -> Result<Self, &'static str> {
        let Some(inside) = text.strip_prefix('{') else {
            if text.contains(['{', '}', '?', '#', '%', '*']) || text.contains(char::is_control) {
                return Err("a segment is plain text without %, ?, # or *, or a whole {parameter}");
            }
            return Ok(Segment::Plain(text));
        };
        let inside = inside.strip_suffix('}').ok_or("a { has no } at the end of its segment")?;
        let (name, is_rest) = match inside.strip_prefix('*') {
            Some(name) => (name, true),
            None => (inside, false),
        };
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if name.is_empty() || !name.bytes().all(is_name) {
            return Err("a parameter's name is made of letters, digits and underscores");
        }
        Ok(if is_rest { Segment::Rest(name) } else { Segment::Param(name) })
    }
}

/// `methods` and those that are answered because of them.
fn allow<'a>(methods: impl Iterator<Item = &'a str>) -> String {
    let mut all: Vec<&str> = methods.collect();
    for (implied, by) in [("HEAD", all.contains(&"GET")), ("OPTIONS", true)] {
        if by && !all.contains(&implied) {
            all.push(implied);
        }
    }
    all.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router(routes: &[&'static str]) -> Router<&'static str> {
        let mut router = Router::new();
        for route in routes {
            let (method, path) = route.split_once(' ').unwrap();
            router.insert(method, path, *route).unwrap();
        }
        router
    }

    /// What becomes of a request: the route and its parameters, or why there is none.
    fn found(router: &Router<&str>, request: &str) -> String {
        let (method, path) = request.split_once(' ').unwrap();
        match router.find(method, path) {
            Found::Route(route, params) => {
                let names = params.names.iter().flat_map(|names| names.iter());
                names.zip(&params.values).fold((*route).to_owned(), |text, (name, value)| {
                    assert_eq!(params.to_owned().get(name), Some(&**value));
                    format!("{text} {name}={value}")
                })
            }
            Found::OtherMethods(allow) => format!("405 {allow}"),
            Found::Nothing => "404".to_owned(),
            Found::Bad(bad) => bad.status.to_string(),
        }
    }

    #[test]
    fn requests_find_their_routes() {
        let router = router(&[
            "GET /",
            "GET /items",
            "POST /items",
            "GET /items/{id}",
            "PUT /items/{item}",
            "GET /items/new",
            "GET /items/new/form",
            "GET /items/{id}/parts/{part}",
            "GET /files/{*path}",
            "GET /files/index",
            "DELETE /both",
            "HEAD /both",
            "GET /both",
            "OPTIONS /own",
            "GET /成功/x y",
            "GET /end/",
        ]);
        for (request, expected) in [
            ("GET /", "GET /"),
            ("HEAD /", "GET /"),
            ("POST /", "405 GET, HEAD, OPTIONS"),
            ("GET /items", "GET /items"),
            ("POST /items", "POST /items"),
            ("OPTIONS /items", "405 GET, POST, HEAD, OPTIONS"),
            ("GET /items/", "404"),
            ("GET /items/7", "GET /items/{id} id=7"),
            ("PUT /items/7", "PUT /items/{item} item=7"),
            ("GET /items/new", "GET /items/new"),
            ("PUT /items/new", "405 GET, HEAD, OPTIONS"),
            ("GET /items/new/form", "GET /items/new/form"),
            // A plain segment that leads nowhere gives way to the parameter.
            ("GET /items/new/parts/3", "GET /items/{id}/parts/{part} id=new part=3"),
            ("GET /items/7/parts/", "404"),
            ("GET /items/a%2Fb%20%E6%88%90", "GET /items/{id} id=a/b 成"),
            ("GET /it%65ms", "GET /items"),
            ("GET /items/%ff", "400"),
            ("GET /files/", "GET /files/{*path} path="),
            ("GET /files", "404"),
            ("GET /files/index", "GET /files/index"),
            ("GET /files/index/a%2fb/c", "GET /files/{*path} path=index/a/b/c"),
            ("GET /files/../x", "GET /files/{*path} path=../x"),
            ("HEAD /both", "HEAD /both"),
            ("POST /both", "405 DELETE, HEAD, GET, OPTIONS"),
            ("OPTIONS /own", "OPTIONS /own"),
            ("GET /%E6%88%90%e5%8a%9f/x%20y", "GET /成功/x y"),
            ("GET /end/", "GET /end/"),
            ("GET /end", "404"),
            ("GET //", "404"),
            ("GET /Items", "404"),
            ("OPTIONS *", "404"),
        ] {
            assert_eq!(found(&router, request), expected, "{request}");
        }
        assert_eq!(router.allow(), "GET, POST, PUT, DELETE, HEAD, OPTIONS");
    }

    #[test]
    fn hundreds_of_routes_in_one_place() {
        let mut router = Router::new();
        for number in 0..1000 {
            router.insert("GET", &format!("/r{number}/{{x}}"), number).unwrap();
        }
        for number in 0..1000 {
            let path = format!("/r{number}/y");
            assert!(
                matches!(router.find("GET", &path), Found::Route(found, _) if *found == number)
            );
        }
    }

    #[test]
    fn routes_that_cannot_be() {
        for (first, second, expected) in [
            ("GET /a", "GET /a", "GET /a is there twice"),
            ("GET /{a}/x", "GET /{b}/x", "GET /{b}/x is there twice"),
            ("GET /{*a}", "GET /{*b}", "GET /{*b} is there twice"),
        ] {
            let mut router = router(&[first]);
            let (method, path) = second.split_once(' ').unwrap();
            assert_eq!(router.insert(method, path, "").unwrap_err().to_string(), expected);
        }
        for path in [
            "", "a", "/{a", "/a}", "/{}", "/{*}", "/x{a}", "/{a}x", "/{*a}/b", "/{a}/{a}",
            "/{a-b}", "/a?b", "/a#b", "/a%20b", "/*", "/a\n",
        ] {
            let error = Router::new().insert("GET", path, ()).unwrap_err();
            assert!(matches!(error, BadRoute::Path { .. }), "{path}: {error}");
        }
        for method in ["", "get", "G T", "CONNECT", "TRACE"] {
            let error = Router::new().insert(method, "/", ()).unwrap_err();
            assert_eq!(error, BadRoute::Method(method.to_owned()));
        }
    }
}
