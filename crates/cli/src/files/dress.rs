//! Gives what was made the owner, the attributes, the mode and the times that it had in the guest.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chownat, fchmod,
    fchown, fsetxattr, futimens, utimensat,
};
use stillwater_files::{Facts, Item, Moment};

use super::Report;

/// Bits that make a program run as another user.
const SET_ID: u32 = 0o6000;
/// Rights that a program has whoever runs it: they stay in the guest as well.
const CAPABILITY: &[u8] = b"security.capability";

/// Modes of what has none in the guest.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// Dresses an open file or directory. What cannot be given is lost, no error.
pub(super) fn dress(open: impl AsFd, item: &Item, facts: &Facts, report: &mut Report) {
    if let Some((owner, group)) = owner(facts, report) {
        tell(&item.path, "its owner", fchown(&open, owner, group), report);
    }
    for (name, value) in &item.attributes {
        let words = String::from_utf8_lossy(name);
        let what = format!("its extended attribute {words}");
        if name == CAPABILITY {
            report.lost(&item.path, format!("{what} is left out"));
            continue;
        }
        let set = fsetxattr(&open, name.as_slice(), value, XattrFlags::empty());
        tell(&item.path, &what, set, report);
    }
    let other = match facts.kind.as_str() {
        "directory" => DIRECTORY_MODE,
        _ => FILE_MODE,
    };
    let mode = facts.mode.unwrap_or(other);
    if mode & SET_ID != 0 && facts.kind != "directory" {
        report.lost(&item.path, "its bits setuid and setgid are left out");
    }
    let set = fchmod(&open, Mode::from_raw_mode(mode & 0o1777));
    tell(&item.path, "its mode", set, report);
    let set = futimens(&open, &times(facts));
    tell(&item.path, "its times", set, report);
}

/// Dresses a symbolic link, which has no mode.
pub(super) fn dress_link(
    directory: impl AsFd,
    name: &[u8],
    item: &Item,
    facts: &Facts,
    report: &mut Report,
) {
    if let Some((owner, group)) = owner(facts, report) {
        let set = chownat(&directory, name, owner, group, AtFlags::SYMLINK_NOFOLLOW);
        tell(&item.path, "its owner", set, report);
    }
    if !item.attributes.is_empty() {
        let what = "extended attributes of links are left out";
        report.lost(&item.path, what);
    }
    let set = utimensat(&directory, name, &times(facts), AtFlags::SYMLINK_NOFOLLOW);
    tell(&item.path, "its times", set, report);
}

fn tell(path: &[u8], what: &str, set: rustix::io::Result<()>, report: &mut Report) {
    if let Err(error) = set {
        let error = io::Error::from(error);
        report.lost(path, format!("{what} cannot be given here: {error}"));
    }
}

/// Only root can give files away.
fn owner(facts: &Facts, report: &mut Report) -> Option<(Option<Uid>, Option<Gid>)> {
    if facts.owner.is_none() && facts.group.is_none() {
        return None;
    }
    if !rustix::process::geteuid().is_root() {
        report.of_all("owners are not given here, which takes root");
        return None;
    }
    // The number that stands for "leave it" is nobody's.
    let known = |number: &u32| *number != u32::MAX;
    let owner = facts.owner.filter(known).map(Uid::from_raw);
    Some((owner, facts.group.filter(known).map(Gid::from_raw)))
}

fn times(facts: &Facts) -> Timestamps {
    let time = |moment: Option<Moment>| match moment {
        Some(moment) => Timespec {
            tv_sec: moment.seconds,
            tv_nsec: moment.nanoseconds.min(999_999_999).into(),
        },
        None => Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
    };
    Timestamps {
        last_access: time(facts.accessed),
        last_modification: time(facts.modified),
    }
}

/// How directories are opened below another: no link is followed, nothing leads out.
pub(super) const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
