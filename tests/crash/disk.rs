//! Disks that end in the middle of a write: a file system of a few pages, and a limit of the length of a file.

use std::path::{Path, PathBuf};

use crate::common::process::{command, succeed};

/// A small file system of its own at a directory; it goes with this value.
pub struct Disk {
    at: PathBuf,
}

impl Disk {
    pub const OCTETS: u64 = 4 << 20;
    pub const PAGE: u64 = 4096;

    pub fn mounted(at: &Path) -> Disk {
        let size = format!("size={}", Disk::OCTETS);
        let mut mount = command("mount");
        succeed(mount.args(["-t", "tmpfs", "-o", &size, "rcptsync"]).arg(at));
        Disk { at: at.to_owned() }
    }

    fn filler(&self) -> PathBuf {
        self.at.join("filler")
    }

    fn pages_free(&self) -> u64 {
        let free = rustix::fs::statvfs(&self.at).expect("it is mounted");
        free.f_bavail
    }

    /// Leaves so many pages, or fewer if there are fewer.
    pub fn leave(&self, pages: u64) {
        let filled = self.pages_free().saturating_sub(pages);
        let octets = usize::try_from(filled * Disk::PAGE).expect("a small disk");
        std::fs::write(self.filler(), vec![b'x'; octets]).expect("there is room for it");
    }

    pub fn empty(&self) {
        std::fs::remove_file(self.filler()).expect("our own file");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whoever looks at it still must not keep the test from ending.
        let _ = command("umount").arg("--lazy").arg(&self.at).status();
    }
}

/// What makes writes and reads short and interrupts them, as a library that is loaded in front of libc. It says so by
/// `SHORT`: every call moves one octet at most, and every second is interrupted before it does.
const SHORT: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <sys/uio.h>
#include <unistd.h>

static __thread unsigned calls;
static int is_interrupted(void) {
    if (++calls % 2) { errno = EINTR; return 1; }
    return 0;
}
static size_t some(size_t count) { return count > 7 ? 7 : count; }

ssize_t write(int file, const void *octets, size_t count) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "write");
    return is_interrupted() ? -1 : real(file, octets, some(count));
}
ssize_t writev(int file, const struct iovec *parts, int count) {
    for (int part = 0; part < count; part++)
        if (parts[part].iov_len) return write(file, parts[part].iov_base, parts[part].iov_len);
    return 0;
}
ssize_t pwrite64(int file, const void *octets, size_t count, off64_t at) {
    static ssize_t (*real)(int, const void *, size_t, off64_t);
    if (!real) real = dlsym(RTLD_NEXT, "pwrite64");
    return is_interrupted() ? -1 : real(file, octets, some(count), at);
}
ssize_t read(int file, void *octets, size_t count) {
    static ssize_t (*real)(int, void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "read");
    return is_interrupted() ? -1 : real(file, octets, some(count));
}
ssize_t pread64(int file, void *octets, size_t count, off64_t at) {
    static ssize_t (*real)(int, void *, size_t, off64_t);
    if (!real) real = dlsym(RTLD_NEXT, "pread64");
    return is_interrupted() ? -1 : real(file, octets, some(count), at);
}
int fsync(int file) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fsync");
    return is_interrupted() ? -1 : real(file);
}
"#;

/// Builds that library in a directory.
pub fn short_library(directory: &Path) -> PathBuf {
    let (source, library) = (directory.join("short.c"), directory.join("short.so"));
    std::fs::write(&source, SHORT).expect("our own file");
    let mut cc = command("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-o"]);
    succeed(cc.arg(&library).arg(&source).arg("-ldl"));
    library
}
