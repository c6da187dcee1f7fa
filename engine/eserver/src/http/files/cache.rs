//! [`Cache`]: small files in memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;

/// How long a file is taken to be as it was.
const FRESH: Duration = Duration::from_secs(1);

/// Values by path, of a bounded length in all.
///
/// There are two generations. What is used is, or is moved, in the young one; when that has half of
/// the bytes it becomes the old one, and the old one goes. So what is used often stays, at the cost
/// of a move now and then.
pub(super) struct Cache<T> {
    young: HashMap<String, Entry<T>>,
    old: HashMap<String, Entry<T>>,
    /// What the young ones take up.
    young_bytes: u64,
    bytes_max: u64,
}

struct Entry<T> {
    value: Arc<T>,
    bytes: u64,
    /// When it was found to be so.
    checked: Instant,
    /// Somebody has been told to look again.
    is_looked_at: bool,
}

impl<T> Cache<T> {
    pub(super) fn new(bytes_max: u64) -> Self {
        Cache { young: HashMap::new(), old: HashMap::new(), young_bytes: 0, bytes_max }
    }

    /// The value, if it is fresh. If it no longer is, the one who asks first is to look at the file;
    /// others are given the value for a moment more, but never one that was found to be so longer
    /// than twice [`FRESH`] ago, whatever became of who is looking.
    pub(super) fn get(&mut self, path: &str, now: Instant) -> Option<Arc<T>> {
        if !self.young.contains_key(path) {
            let (path, entry) = self.old.remove_entry(path)?;
            self.put(path, entry);
        }
        let entry = self.young.get_mut(path)?;
        let age = now.saturating_duration_since(entry.checked);
        let is_looked_at = std::mem::replace(&mut entry.is_looked_at, age >= FRESH);
        let is_fresh = age < FRESH || (age < 2 * FRESH && is_looked_at);
        is_fresh.then(|| Arc::clone(&entry.value))
    }

    /// The value, fresh or not.
    pub(super) fn peek(&self, path: &str) -> Option<Arc<T>> {
        let entry = self.young.get(path).or_else(|| self.old.get(path))?;
        Some(Arc::clone(&entry.value))
    }

    /// Keeps a value that takes up `bytes`, unless it is too long for this cache.
    pub(super) fn insert(&mut self, path: String, value: Arc<T>, bytes: u64, now: Instant) {
        // What a path and its entry take up of themselves, about.
        let bytes = bytes + path.len() as u64 + 256;
        if bytes <= self.bytes_max / 2 {
            self.old.remove(&path);
            self.put(path, Entry { value, bytes, checked: now, is_looked_at: false });
        } else {
            self.remove(&path);
        }
    }

    /// Forgets what is no longer so.
    pub(super) fn remove(&mut self, path: &str) {
        self.old.remove(path);
        if let Some(entry) = self.young.remove(path) {
            self.young_bytes -= entry.bytes;
        }
    }

    fn put(&mut self, path: String, entry: Entry<T>) {
        if self.young_bytes + entry.bytes > self.bytes_max / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
            self.old.remove(&path);
        }
        self.young_bytes += entry.bytes;
        if let Some(before) = self.young.insert(path, entry) {
            self.young_bytes -= before.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freshness() {
        let mut cache = Cache::new(10_000);
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        cache.insert("a".to_owned(), Arc::new(1), 100, at(0));
        assert_eq!(cache.get("a", at(999)).as_deref(), Some(&1));
        assert_eq!(cache.get("a", at(1000)), None, "who comes first is to look");
        assert_eq!(cache.get("a", at(1001)).as_deref(), Some(&1), "others need not");
        assert_eq!(cache.get("a", at(1999)).as_deref(), Some(&1));
        assert_eq!(cache.get("a", at(2000)), None, "nobody came back from looking");
        assert_eq!(cache.get("a", at(2001)), None, "so nobody may guess");
        assert_eq!(cache.get("a", at(9000)), None, "nobody has asked for long");
        assert_eq!(cache.get("a", at(9001)), None, "so nobody may guess");
        assert_eq!(cache.peek("a").as_deref(), Some(&1));
        cache.insert("a".to_owned(), Arc::new(2), 100, at(9002));
        assert_eq!(cache.get("a", at(9003)).as_deref(), Some(&2));
        assert_eq!(cache.get("a", at(10_002)), None, "who comes first is to look");
        cache.remove("a");
        assert_eq!(cache.get("a", at(10_003)), None, "it was found to be gone");
        assert_eq!((cache.peek("a"), cache.young_bytes), (None, 0));
    }

    #[test]
    fn what_is_used_stays_and_the_bytes_are_bounded() {
        let mut cache = Cache::new(10_000);
        let now = Instant::now();
        cache.insert("often".to_owned(), Arc::new(0), 100, now);
        for number in 0..1000 {
            cache.insert(number.to_string(), Arc::new(number), 100, now);
            assert!(cache.get("often", now).is_some(), "{number}");
            let all = cache.young.values().chain(cache.old.values());
            assert!(all.map(|entry| entry.bytes).sum::<u64>() <= 10_000);
            let young: u64 = cache.young.values().map(|entry| entry.bytes).sum();
            assert_eq!(cache.young_bytes, young);
        }
        assert!(cache.peek("0").is_none() && cache.peek("999").is_some());
        cache.insert("often".to_owned(), Arc::new(0), 6000, now);
        assert!(cache.peek("often").is_none(), "too long to be kept");
        cache.insert("999".to_owned(), Arc::new(1), 200, now);
        assert_eq!(cache.young_bytes, cache.young.values().map(|entry| entry.bytes).sum::<u64>());
    }
}
