//! `capture.hook` with the keys that belong to it, and their check.
//!
//! Does not ask whether the cgroup or the interfaces exist: they may come later than the file.

use std::collections::BTreeSet;

use toml::Spanned;

use super::error::Fault;
use crate::capture::{Hook, interface};

/// The hook that needs `capture.interfaces`.
pub(super) const TC: &str = "tc";
const CGROUP: &str = "cgroup";

/// What the three keys mean together.
pub(super) fn finish(
    hook: Option<Spanned<String>>,
    cgroup: Option<Spanned<String>>,
    interfaces: Option<Spanned<Vec<String>>>,
) -> Result<Hook, Fault> {
    let fault =
        |key: &str, span, problem: &str| Fault { key: key.to_owned(), span, problem: problem.to_owned() };
    let is_tc = match hook.as_ref().map(|hook| hook.get_ref().as_str()) {
        None | Some(CGROUP) => false,
        Some(TC) => true,
        Some(_) => {
            let span = hook.map_or(0..0, |hook| hook.span());
            return Err(fault("capture.hook", span, "must be \"cgroup\" or \"tc\""));
        }
    };
    match (is_tc, cgroup, interfaces) {
        (false, _, Some(interfaces)) => Err(fault(
            "capture.interfaces",
            interfaces.span(),
            "needs `hook = \"tc\"`; sockets are on every interface",
        )),
        (true, Some(cgroup), _) => Err(fault(
            "capture.cgroup",
            cgroup.span(),
            "is for `hook = \"cgroup\"`; an interface has no cgroup",
        )),
        (true, None, None) => {
            let span = hook.map_or(0..0, |hook| hook.span());
            Err(fault("capture.hook", span, "\"tc\" needs `interfaces = [...]`, such as [\"eth0\"]"))
        }
        (true, None, Some(interfaces)) => {
            check_names(interfaces.get_ref()).map_err(|problem| Fault {
                key: "capture.interfaces".to_owned(),
                span: interfaces.span(),
                problem,
            })?;
            Ok(Hook::Interfaces(interfaces.into_inner()))
        }
        (false, None, None) => Ok(Hook::default()),
        (false, Some(cgroup), None) => {
            // An empty variable in somebody's script must not become the whole host.
            if cgroup.get_ref().is_empty() {
                return Err(fault(
                    "capture.cgroup",
                    cgroup.span(),
                    "must not be empty; `/` is every service of the host",
                ));
            }
            let Ok(selector) = cgroup.get_ref().parse();
            Ok(Hook::Cgroup(selector))
        }
    }
}

/// What is wrong with the names, if anything.
fn check_names(names: &[String]) -> Result<(), String> {
    if names.is_empty() || names.len() > interface::INTERFACES_MAX {
        return Err(format!("must name 1 to {} interfaces", interface::INTERFACES_MAX));
    }
    if let Some(name) = names.iter().find(|name| !interface::is_name(name)) {
        return Err(format!("`{name}` cannot be the name of an interface"));
    }
    let mut known = BTreeSet::new();
    match names.iter().find(|name| !known.insert(name.as_str())) {
        Some(name) => Err(format!("names `{name}` twice")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::CgroupSelector;

    #[track_caller]
    fn check(
        hook: Option<&str>,
        cgroup: Option<&str>,
        interfaces: Option<&[&str]>,
        expected: Result<Hook, &str>,
    ) {
        let given = |text: &str| Spanned::new(0..0, text.to_owned());
        let interfaces =
            interfaces.map(|names| Spanned::new(0..0, names.iter().map(|name| (*name).to_owned()).collect()));
        let found = finish(hook.map(given), cgroup.map(given), interfaces);
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(found), Err(part)) => {
                let said = format!("{} {}", found.key, found.problem);
                assert!(said.contains(part), "{said:?} does not contain {part:?}");
            }
            (Ok(found), Err(part)) => panic!("{found:?}, not {part:?}"),
            (Err(found), Ok(expected)) => panic!("{} {}, not {expected:?}", found.key, found.problem),
        }
    }

    #[test]
    fn sockets_are_watched_unless_told_otherwise() {
        check(None, None, None, Ok(Hook::Cgroup(CgroupSelector::Root)));
        check(Some("cgroup"), None, None, Ok(Hook::Cgroup(CgroupSelector::Root)));
        let shop = CgroupSelector::Unit("shop.service".to_owned());
        check(None, Some("shop.service"), None, Ok(Hook::Cgroup(shop)));
        check(None, Some(""), None, Err("capture.cgroup must not be empty"));
    }

    #[test]
    fn interfaces_are_named_with_their_hook() {
        let both = Hook::Interfaces(vec!["eth0".to_owned(), "eth1.100".to_owned()]);
        check(Some("tc"), None, Some(&["eth0", "eth1.100"]), Ok(both));
        check(Some("tc"), None, None, Err("capture.hook \"tc\" needs `interfaces"));
        check(None, None, Some(&["eth0"]), Err("capture.interfaces needs `hook"));
        check(Some("cgroup"), None, Some(&["eth0"]), Err("capture.interfaces needs `hook"));
        check(Some("tc"), Some("/"), Some(&["eth0"]), Err("capture.cgroup is for"));
        check(Some("xdp"), None, None, Err("capture.hook must be"));
    }

    #[test]
    fn names_that_cannot_be_are_refused() {
        check(Some("tc"), None, Some(&[]), Err("must name 1 to 64"));
        check(Some("tc"), None, Some(&["eth0", "eth0"]), Err("names `eth0` twice"));
        check(Some("tc"), None, Some(&["../eth0"]), Err("cannot be the name"));
    }
}
