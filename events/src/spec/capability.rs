//! Capabilities of Linux, with the names of capabilities(7).

/// The valid forms, for hints.
pub const CAPABILITY_HINT: &str =
    "name capabilities as capabilities(7) does, such as NET_ADMIN or CAP_NET_ADMIN, or say ALL";

/// All of them, without their common prefix. The kernel's list grows slowly: the last one came with Linux 5.9.
const NAMES: [&str; 41] = [
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

/// Whether a text names a capability, with or without `CAP_` and in any case, or all of them.
pub fn is_capability(text: &str) -> bool {
    let upper = text.to_ascii_uppercase();
    upper == "ALL" || NAMES.contains(&upper.strip_prefix("CAP_").unwrap_or(&upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_names_are_known() {
        for text in ["ALL", "all", "NET_ADMIN", "cap_sys_ptrace", "CAP_BPF", "Chown", "WAKE_ALARM"] {
            assert!(is_capability(text), "{text}");
        }
        for text in ["", "CAP_", "CAP_ALL", "NET ADMIN", "NET-ADMIN", "_X", "NOT_A_CAP", "CAP_CAP_BPF", "BPF "] {
            assert!(!is_capability(text), "{text}");
        }
        assert!(NAMES.is_sorted());
    }
}
