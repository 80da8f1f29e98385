//! The names that a template may use, so that a typing error is found by `check` and not by the first uplink.
//!
//! They are the names of the default body (DESIGN section 7). Two levels are known; what lies below `decoded`, a label or
//! a variable is the device's own affair.

/// What stands behind a name at the top.
pub(super) enum Shape {
    /// One value.
    Value,
    /// Anything, of any depth.
    Open,
    /// A group of values with these names.
    Group(&'static [&'static str]),
}

pub(super) const ROOTS: [(&str, Shape); 23] = [
    ("type", Shape::Value),
    ("id", Shape::Value),
    ("time", Shape::Value),
    ("time_ms", Shape::Value),
    ("time_quality", Shape::Value),
    ("time_bounds", Shape::Group(&["after", "before"])),
    ("gateway", Shape::Group(&["name", "eui"])),
    ("device", Shape::Group(&["name", "dev_eui", "join_eui", "dev_addr", "labels", "variables"])),
    ("f_port", Shape::Value),
    ("f_cnt", Shape::Value),
    ("confirmed", Shape::Value),
    ("payload", Shape::Value),
    ("payload_hex", Shape::Value),
    ("decoded", Shape::Open),
    ("normalized", Shape::Open),
    ("decode_errors", Shape::Open),
    ("decode_warnings", Shape::Open),
    ("rx", Shape::Group(&["frequency", "data_rate", "coding_rate", "rssi", "snr", "channel"])),
    ("phy_payload", Shape::Value),
    ("phy_payload_hex", Shape::Value),
    ("retransmission", Shape::Value),
    ("simulated", Shape::Value),
    ("replay", Shape::Value),
];

/// What is wrong with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Misnomer {
    /// There is no such name; perhaps this one was meant.
    Unknown(Option<String>),
    /// It is a group; these are its names.
    Group(&'static str, &'static [&'static str]),
    /// It is one value and has no parts.
    Single(&'static str),
}

/// Checks `path`, the parts of a placeholder.
pub(super) fn check(path: &[String]) -> Result<(), Misnomer> {
    let Some((root, below)) = path.split_first() else { return Err(Misnomer::Unknown(None)) };
    let Some((name, shape)) = ROOTS.iter().find(|(name, _)| name == root) else {
        let meant = nearest(root, ROOTS.iter().map(|(name, _)| *name));
        return Err(Misnomer::Unknown(meant.map(str::to_owned)));
    };
    match (shape, below) {
        (Shape::Open, _) | (Shape::Value, []) => Ok(()),
        (Shape::Value, _) => Err(Misnomer::Single(name)),
        (Shape::Group(members), []) => Err(Misnomer::Group(name, members)),
        (Shape::Group(members), [member, ..]) if members.contains(&member.as_str()) => Ok(()),
        (Shape::Group(members), [member, ..]) => {
            let meant = nearest(member, members.iter().copied());
            Err(Misnomer::Unknown(meant.map(|member| format!("{name}.{member}"))))
        }
    }
}

/// The name that `given` is most likely a misspelling of: at most a third of it differs.
fn nearest<'a>(given: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |name: &str| strsim::damerau_levenshtein(given, name);
    names
        .map(|name| (distance(name), name))
        .filter(|(distance, name)| distance * 3 <= name.len().max(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}
