//! The standard library that this build is linked with knows times after 2038-01-19 03:14:07: a gateway with a bad battery
//! can boot into any year. On 32-bit musl it does not by default; `cross/cargo.sh` builds one that does, and `tests/arm.sh`
//! runs this there.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::time::{Duration, UNIX_EPOCH};

#[test]
fn a_file_of_2040_is_of_2040() {
    let new_year_2040 = UNIX_EPOCH + Duration::from_secs(2_208_988_800);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    File::create(&path).unwrap().set_modified(new_year_2040).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), new_year_2040);
}
