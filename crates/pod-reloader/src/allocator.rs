//! Makes glibc's allocator give back what is freed.
//!
//! By default it raises the size from which a block is mapped by itself to that of the largest block that was freed,
//! up to 32 MiB, and keeps from then on what was freed, in an arena for each thread: after a burst of large reviews
//! the process stays as large as it was, and the next burst finds it in another arena. With a fixed threshold large
//! blocks go back at once. That takes a variable that is read before `main`, so the process starts itself once more.
//! `docs/performance.md` has the figures, and those of another allocator.

use std::os::unix::process::CommandExt;
use std::process::Command;

const SETTINGS: [(&str, &str); 2] = [("MALLOC_MMAP_THRESHOLD_", "131072"), ("MALLOC_ARENA_MAX", "2")];

/// Becomes the same process with the allocator set, unless its settings were given. Goes on as it is if that fails.
pub fn return_what_is_freed() {
    let is_set = |name: &str| std::env::var_os(name).is_some();
    if !cfg!(target_env = "gnu") || is_set("GLIBC_TUNABLES") || SETTINGS.iter().any(|(name, _)| is_set(name))
    {
        return;
    }
    let (Ok(program), mut args) = (std::env::current_exe(), std::env::args_os()) else { return };
    let mut again = Command::new(program);
    if let Some(name) = args.next() {
        again.arg0(name);
    }
    let error = again.args(args).envs(SETTINGS).exec();
    eprintln!("warning: freed memory is not given back: cannot start again: {error}");
}
