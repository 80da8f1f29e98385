//! Pages of a redb file: header, commit slots, leaves and branches of format version 3, as redb's `docs/design.md` has them.
//!
//! Nothing here trusts a byte. Every offset is checked, a page that is absurdly large or outside the file is unreadable, and
//! whether a page is what its parent points to is told by the checksum (XXH3-128) that the parent holds.

use std::time::Instant;

use redb::StorageBackend;
use twox_hash::XxHash3_128;

/// redb's page, bytes.
pub(super) const PAGE: u64 = 4_096;

const MAGIC: &[u8] = b"redb\x1a\x0a\xa9\x0d\x0a";
const VERSION: u8 = 3;

/// Of a region, pages; a spool of less than 4 GiB has one.
const REGION_PAGES: u32 = 1 << 20;

/// No page of a spool is larger: a source takes no message of more than 1 MiB.
const LARGEST: u64 = 16 << 20;

/// Where the header's fields are.
mod at {
    pub(super) const GOD_BYTE: usize = 9;
    pub(super) const PAGE_SIZE: usize = 12;
    pub(super) const REGION_HEADER_PAGES: usize = 16;
    pub(super) const REGION_PAGES: usize = 20;
    pub(super) const FULL_REGIONS: usize = 24;
    pub(super) const TRAILING_PAGES: usize = 28;
    pub(super) const SLOTS: [usize; 2] = [64, 192];
    pub(super) const END: usize = 320;
    // Within a slot.
    pub(super) const USER: (usize, usize) = (1, 8);
    pub(super) const SYSTEM: (usize, usize) = (2, 40);
    pub(super) const TRANSACTION: usize = 104;
    pub(super) const CHECKSUM: usize = 112;
}

pub(super) fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    array(bytes, at).map(|bytes| usize::from(u16::from_le_bytes(bytes)))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(array(bytes, at)?)).ok()
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array(bytes, at).map(u64::from_le_bytes)
}

fn checksum(bytes: &[u8]) -> u128 {
    XxHash3_128::oneshot(bytes)
}

/// A page as its parent knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Root {
    page: u64,
    checksum: u128,
}

impl Root {
    pub(super) fn read(bytes: &[u8], at: usize) -> Option<Root> {
        Some(Root {
            page: u64_at(bytes, at)?,
            checksum: u128::from_le_bytes(array(bytes, at.checked_add(8)?)?),
        })
    }

    /// Where the page is, and its length; bytes.
    fn place(self) -> Option<(u64, u64)> {
        let order = self.page >> 59;
        let index = self.page & (0xf_ffff >> order);
        let region = self.page >> 20 & 0xf_ffff;
        let len = PAGE << order;
        let start = PAGE + region * u64::from(REGION_PAGES) * PAGE + index.checked_mul(len)?;
        (len <= LARGEST).then_some((start, len))
    }
}

/// How long keys and values are, where they are all of one length; bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Widths {
    pub(super) key: Option<usize>,
    pub(super) value: Option<usize>,
}

/// One of the two places where a commit leaves its roots.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) user: Option<Root>,
    pub(super) system: Option<Root>,
    transaction: u64,
    version: u8,
    is_whole: bool,
}

impl Slot {
    fn read(bytes: &[u8], start: usize) -> Option<Slot> {
        let slot = bytes.get(start..start + 128)?;
        let root = |(flag, at): (usize, usize)| {
            slot.get(flag).filter(|flag| **flag != 0).and_then(|_| Root::read(slot, at))
        };
        let sum = u128::from_le_bytes(array(slot, at::CHECKSUM)?);
        Some(Slot {
            user: root(at::USER),
            system: root(at::SYSTEM),
            transaction: u64_at(slot, at::TRANSACTION)?,
            version: *slot.first()?,
            is_whole: checksum(slot.get(..at::CHECKSUM)?) == sum,
        })
    }
}

/// What the first page says.
#[derive(Clone, Debug)]
pub(super) struct Header {
    /// Both slots, the one that counts first.
    slots: Vec<Slot>,
    /// The last program that had it open closed it.
    pub(super) is_clean: bool,
    two_phase: bool,
    has_magic: bool,
    /// What redb would not accept.
    pub(super) fault: Option<String>,
}

impl Header {
    /// The slots that redb would open the file by, in that order.
    pub(super) fn accepted(&self) -> impl Iterator<Item = &Slot> {
        let at_most = if self.two_phase { 1 } else { 2 };
        self.slots.iter().take(at_most).filter(|slot| slot.is_whole)
    }

    /// Both slots are of another format of redb's than the one that is known here.
    pub(super) fn other_version(&self) -> Option<u8> {
        let first = self.slots.first().map(|slot| slot.version).filter(|version| *version != VERSION)?;
        (self.has_magic && self.slots.iter().all(|slot| slot.version == first)).then_some(first)
    }

    /// Both slots are what was written: nobody can doubt which one is the last.
    pub(super) fn has_whole_slots(&self) -> bool {
        self.slots.len() == 2 && self.slots.iter().all(|slot| slot.is_whole)
    }

    /// All of them: a root proves itself by its checksum, whatever became of the slot around it.
    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    fn read(bytes: &[u8], len: u64) -> Option<Header> {
        let god = *bytes.get(at::GOD_BYTE)?;
        let (is_clean, two_phase) = (god & 2 == 0, god & 4 != 0);
        let mut slots: Vec<Slot> = at::SLOTS.iter().filter_map(|start| Slot::read(bytes, *start)).collect();
        if god & 1 != 0 {
            slots.reverse();
        }
        let versions: Vec<u8> = slots.iter().map(|slot| slot.version).collect();
        // The newer of two whole ones counts, unless the first was written in two phases.
        if !two_phase
            && let [first, second] = slots.as_slice()
            && second.is_whole
            && (!first.is_whole || second.transaction > first.transaction)
        {
            slots.reverse();
        }
        let has_magic = bytes.starts_with(MAGIC);
        let fault = if !has_magic {
            Some("it does not begin as a redb file does".to_owned())
        } else if let Some(version) = versions.iter().find(|version| **version != VERSION) {
            Some(format!("a commit slot in its header is of redb's file format {version}"))
        } else {
            geometry_fault(bytes, len, is_clean)
        };
        Some(Header { slots, is_clean, two_phase, has_magic, fault })
    }
}

/// The layout is what we have redb make, and the file as long as it says.
fn geometry_fault(bytes: &[u8], len: u64, is_clean: bool) -> Option<String> {
    let field = |at| u32_at(bytes, at).unwrap_or(0) as u64;
    let layout = (field(at::PAGE_SIZE), field(at::REGION_HEADER_PAGES), field(at::REGION_PAGES));
    if layout != (PAGE, 0, u64::from(REGION_PAGES)) {
        return Some("the layout in its header is not a spool's".into());
    }
    let pages = field(at::FULL_REGIONS) * u64::from(REGION_PAGES) + field(at::TRAILING_PAGES);
    let expected = PAGE + pages * PAGE;
    if is_clean && len < expected {
        return Some(format!("it is {len} bytes long, its header says {expected}"));
    }
    if !len.is_multiple_of(PAGE) || len < 2 * PAGE {
        return Some(format!("no spool is {len} bytes long"));
    }
    None
}

/// The file.
#[derive(Debug)]
pub(super) struct Pages {
    file: Box<dyn StorageBackend>,
    len: u64,
    /// From then on nothing is read any more: a dying card must not hold a start up for ever.
    until: Option<Instant>,
}

impl Pages {
    pub(super) fn new(file: Box<dyn StorageBackend>, until: Option<Instant>) -> Result<Pages, String> {
        let len = file.len().map_err(|error| error.to_string())?;
        Ok(Pages { file, len, until })
    }

    /// Bytes.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Time was up.
    pub(super) fn is_late(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }

    fn bytes(&self, start: u64, len: u64) -> Option<Vec<u8>> {
        if start.checked_add(len)? > self.len || self.is_late() {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(len).ok()?];
        self.file.read(start, &mut bytes).ok()?;
        Some(bytes)
    }

    /// `None` where there is no header at all.
    pub(super) fn header(&self) -> Option<Header> {
        let bytes = self.bytes(0, self.len.min(PAGE))?;
        if bytes.len() < at::END { None } else { Header::read(&bytes, self.len) }
    }

    /// The page that `root` means, as far as it can be read, and whether it is the one.
    pub(super) fn node(&self, root: Root, widths: Widths) -> Option<(Node, bool)> {
        let (start, len) = root.place()?;
        let node = Node::of(self.bytes(start, len)?, widths)?;
        let is_it = node.summed().map(checksum) == Some(root.checksum);
        Some((node, is_it))
    }

    /// Every leaf there is, in the order of the file, whether anything points to it or not.
    pub(super) fn leaves(&self, widths: Widths) -> impl Iterator<Item = Leaf> + '_ {
        let starts = (1..self.len / PAGE).map(|page| page * PAGE);
        starts.filter_map(move |start| {
            let leaf = Leaf::of(self.bytes(start, PAGE)?, widths)?;
            let end = leaf.end()? as u64;
            if end <= PAGE {
                return Some(leaf);
            }
            let len = end.checked_next_power_of_two().filter(|len| *len <= LARGEST)?;
            Leaf::of(self.bytes(start, len)?, widths)
        })
    }
}

/// A page of a tree.
#[derive(Debug)]
pub(super) enum Node {
    Leaf(Leaf),
    Branch(Branch),
}

impl Node {
    fn of(bytes: Vec<u8>, widths: Widths) -> Option<Node> {
        match bytes.first()? {
            1 => Leaf::of(bytes, widths).map(Node::Leaf),
            2 => Branch::of(bytes, widths).map(Node::Branch),
            _ => None,
        }
    }

    /// What the checksum is over.
    fn summed(&self) -> Option<&[u8]> {
        match self {
            Node::Leaf(leaf) => leaf.bytes.get(..leaf.end()?),
            Node::Branch(branch) => branch.bytes.get(..branch.end()?),
        }
    }
}

/// Keys and values.
#[derive(Debug)]
pub(super) struct Leaf {
    bytes: Vec<u8>,
    n: usize,
    widths: Widths,
}

impl Leaf {
    fn of(bytes: Vec<u8>, widths: Widths) -> Option<Leaf> {
        let n = u16_at(&bytes, 2).filter(|n| *n > 0 && bytes.first() == Some(&1))?;
        Some(Leaf { bytes, n, widths })
    }

    pub(super) fn len(&self) -> usize {
        self.n
    }

    /// The bytes of entry `n`.
    pub(super) fn entry(&self, n: usize) -> Option<(&[u8], &[u8])> {
        let (key, value) = (self.key_start(n)?..self.key_end(n)?, self.value_start(n)?..self.value_end(n)?);
        Some((self.bytes.get(key)?, self.bytes.get(value)?))
    }

    fn end(&self) -> Option<usize> {
        self.value_end(self.n.checked_sub(1)?)
    }

    fn keys_at(&self) -> usize {
        let lists = usize::from(self.widths.key.is_none()) + usize::from(self.widths.value.is_none());
        4 + 4 * self.n * lists
    }

    fn key_start(&self, n: usize) -> Option<usize> {
        if n == 0 { Some(self.keys_at()) } else { self.key_end(n - 1) }
    }

    fn key_end(&self, n: usize) -> Option<usize> {
        match self.widths.key {
            _ if n >= self.n => None,
            Some(width) => Some(self.keys_at() + width * (n + 1)),
            None => u32_at(&self.bytes, 4 + 4 * n),
        }
    }

    fn value_start(&self, n: usize) -> Option<usize> {
        if n == 0 { self.key_end(self.n - 1) } else { self.value_end(n - 1) }
    }

    fn value_end(&self, n: usize) -> Option<usize> {
        let keys = if self.widths.key.is_none() { 4 * self.n } else { 0 };
        match self.widths.value {
            _ if n >= self.n => None,
            Some(width) => Some(self.key_end(self.n - 1)? + width * (n + 1)),
            None => u32_at(&self.bytes, 4 + keys + 4 * n),
        }
    }
}

/// Pointers to children. The keys between them only guide searches, and nothing is searched here.
#[derive(Debug)]
pub(super) struct Branch {
    bytes: Vec<u8>,
    keys: usize,
    widths: Widths,
}

impl Branch {
    fn of(bytes: Vec<u8>, widths: Widths) -> Option<Branch> {
        let keys = u16_at(&bytes, 2).filter(|keys| *keys > 0)?;
        Some(Branch { bytes, keys, widths })
    }

    pub(super) fn children(&self) -> impl Iterator<Item = Root> + '_ {
        let checksums_end = 8 + 16 * (self.keys + 1);
        (0..=self.keys).map_while(move |n| {
            let checksum = u128::from_le_bytes(array(&self.bytes, 8 + 16 * n)?);
            Some(Root { page: u64_at(&self.bytes, checksums_end + 8 * n)?, checksum })
        })
    }

    fn end(&self) -> Option<usize> {
        let children_end = 8 + 24 * (self.keys + 1);
        match self.widths.key {
            Some(width) => Some(children_end + width * self.keys),
            None => u32_at(&self.bytes, children_end + 4 * (self.keys - 1)),
        }
    }
}
