//! What a machine has to have for so many connections: facts, rules, advice.
//!
//! ```text
//! Files ──▶ Facts ──┐
//!                   ├──▶ RULES, MYTHS ──▶ Finding … ──▶ Report, sysctl_file
//!          Target ──┘
//! ```
//!
//! [`Facts::read`] looks at the machine; that is the only place that does, and it does it through
//! [`Files`], which may be recorded ones. A [`Target`] says what is wanted. [`examine`] goes through
//! the rules, a table, and gives a [`Finding`] for each: enough, not enough with the commands that
//! mend it, or worth knowing. A [`Report`] is what a person reads, [`sysctl_file`] a file of what has
//! to change. Nothing here changes anything.
//!
//! Where a rule comes from the kernel's documentation, it says from which page: `ip-sysctl` is
//! Documentation/networking/ip-sysctl, `nf_conntrack-sysctl` stands beside it, `fs` and `net` are
//! Documentation/admin-guide/sysctl/fs and net, `cgroup-v2` is Documentation/admin-guide/cgroup-v2.

mod facts;
mod files;
mod group;
mod target;

mod finding;
mod myths;
mod rules;

mod amount;
mod report;
mod sysctl_file;

pub use facts::{Allowance, Facts, Process};
pub use files::{Files, Here};
pub use finding::{Finding, Purpose, Verdict};
pub use myths::MYTHS_TOLD;
pub use report::Report;
pub use sysctl_file::sysctl_file;
pub use target::Target;

/// What is to be said about a machine and a target, in the order of the rules.
#[must_use]
pub fn examine(facts: &Facts, target: &Target) -> Vec<Finding> {
    let look = |(purpose, rule): &(Purpose, rules::Rule)| {
        let finding = rule(facts, target)?;
        Some(Finding { purpose: *purpose, ..finding })
    };
    let found = rules::RULES.iter().filter_map(look);
    found.chain(myths::MYTHS.iter().filter_map(|myth| myth(facts))).collect()
}
