//! Which file systems a store may lie on (rule 18).
//!
//! The promise rests on `fdatasync`, locks and renames as local disks have them. Network file systems answer a
//! sync from elsewhere and lose locks; union file systems copy a file when it is first written, so the file
//! that was locked and the one that is written need not be the same. They are refused unless allowed by name.

/// What is refused, as `statfs` numbers it (`linux/magic.h`), and the name that allows it.
const REFUSED: &[(u64, &str)] = &[
    (0x6969, "nfs"),
    (0x517b, "smb"),
    (0xfe53_4d42, "smb"),
    (0xff53_4d42, "cifs"),
    (0x564c, "ncp"),
    (0x5346_414f, "afs"),
    (0x6b41_4653, "afs"),
    (0x7375_7245, "coda"),
    (0x0102_1997, "9p"),
    (0x6a65_6a63, "virtiofs"),
    (0x786f_4256, "vboxsf"),
    (0xbacb_acbc, "vmhgfs"),
    (0x00c3_6400, "ceph"),
    (0x0bd0_0bd0, "lustre"),
    (0x1983_0326, "beegfs"),
    (0x0116_1970, "gfs2"),
    (0x7461_636f, "ocfs2"),
    (0x4750_4653, "gpfs"),
    (0x6573_5546, "fuse"),
    (0x794c_7630, "overlay"),
    (0x6175_6673, "aufs"),
    (0xf15f, "ecryptfs"),
];

/// In memory: nothing survives a power cut there, which tests and demonstrations may want.
const IN_MEMORY: &[u64] = &[0x0102_1994, 0x8584_58f6];

/// The name under which this file system is refused, if it is.
pub(super) fn refused(kind: u64) -> Option<&'static str> {
    REFUSED.iter().find(|(magic, _)| *magic == kind).map(|(_, name)| *name)
}

/// Whether everything there is gone after a power cut.
pub(super) fn is_in_memory(kind: u64) -> bool {
    IN_MEMORY.contains(&kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_and_union_file_systems_have_a_name_to_allow_them_by_and_disks_have_none() {
        assert_eq!(refused(0x6969), Some("nfs"));
        assert_eq!(refused(0x794c_7630), Some("overlay"));
        for disk in [0xef53, 0x5846_5342, 0x9123_683e, 0x2fc1_2fc1, 0xf2f5_2010, 0x0102_1994] {
            assert_eq!(refused(disk), None, "{disk:x}");
        }
        assert!(is_in_memory(0x0102_1994) && !is_in_memory(0xef53));
    }
}
