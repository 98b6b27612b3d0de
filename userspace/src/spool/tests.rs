//! A spool is a list: what goes in comes out in order, whatever becomes of process, disk and bytes; what does not is
//! counted.
//!
//! Fills no real disk: a full one is made of the bytes that it still takes.

use std::collections::VecDeque;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

fn frame(seq: u64, bytes: usize) -> Frame {
    Frame {
        producer: 0x0123_4567_89ab_cdef_0011_2233_4455_6677,
        experiment: "search".into(),
        shard: (seq % 3) as u32,
        seq,
        route: "/items/{id}".into(),
        kind: (seq % 2) as u8,
        value: (0..bytes).map(|at| (at as u64 ^ seq) as u8).collect::<Vec<_>>().into(),
    }
}

fn config(folder: &Path, bytes_max: u64) -> SpoolConfig {
    SpoolConfig {
        path: folder.join("spool"),
        bytes_max,
        free_bytes_min: 0,
        segment_bytes: 2_000,
        frame_bytes_max: 3_000,
    }
}

fn open(folder: &TempDir) -> (Spool, Recovered) {
    Spool::open(config(folder.path(), 1 << 20)).unwrap()
}

fn peek(spool: &mut Spool, bytes_max: usize) -> Vec<Frame> {
    let mut frames = Vec::new();
    spool.peek_batch(&mut frames, bytes_max).unwrap();
    frames
}

/// Takes everything out.
fn drain(spool: &mut Spool) -> Vec<Frame> {
    let mut all = Vec::new();
    loop {
        let batch = peek(spool, 700);
        if batch.is_empty() {
            return all;
        }
        spool.commit(batch.len()).unwrap();
        all.extend(batch);
    }
}

fn segments(folder: &TempDir) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(folder.path().join("spool")).unwrap().map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|ext| ext == "seg"));
    files.sort();
    files
}

#[derive(Clone, Debug)]
enum Step {
    Push { bytes: usize },
    Peek { bytes_max: usize },
    Commit { frames: usize },
    Reopen,
    Room { bytes: Option<u64> },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => prop_oneof![0usize..300, 0usize..3_200].prop_map(|bytes| Step::Push { bytes }),
        4 => (0usize..3_000).prop_map(|bytes_max| Step::Peek { bytes_max }),
        4 => (0usize..12).prop_map(|frames| Step::Commit { frames }),
        1 => Just(Step::Reopen),
        1 => proptest::option::of(0u64..2_000).prop_map(|bytes| Step::Room { bytes }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn it_behaves_like_a_list_with_a_bound(
        steps in proptest::collection::vec(step(), 0..120),
        bytes_max in 100u64..20_000,
    ) {
        let folder = TempDir::new().unwrap();
        let config = config(folder.path(), bytes_max);
        let (mut spool, mut room) = (Some(Spool::open(config.clone()).unwrap().0), None);
        let mut list: VecDeque<Frame> = VecDeque::new();
        let mut peeked = 0;
        for (seq, step) in (0u64..).zip(steps) {
            let now = spool.as_mut().unwrap();
            match step {
                Step::Push { bytes } => {
                    let frame = frame(seq, bytes);
                    match now.push(&frame) {
                        Ok(()) => list.push_back(frame),
                        Err(SpoolError::TooLarge { bytes, limit: _ }) => prop_assert!(bytes > 3_000),
                        Err(SpoolError::Full { bytes: held, limit: _ }) => {
                            prop_assert!(held + frame.disk_bytes() as u64 + 16 > bytes_max);
                            prop_assert!(!list.is_empty() || held == 0, "an empty spool holds nothing");
                        }
                        Err(SpoolError::Write { path: _, source: _ }) => prop_assert!(room.is_some()),
                        Err(error) => prop_assert!(false, "{error}"),
                    }
                }
                Step::Peek { bytes_max } => {
                    let frames = peek(now, bytes_max);
                    prop_assert_eq!(frames.is_empty(), list.is_empty());
                    prop_assert!(frames.iter().eq(list.iter().take(frames.len())), "{:?}", frames);
                    let bytes: usize = frames.iter().map(Frame::disk_bytes).sum();
                    prop_assert!(frames.len() <= 1 || bytes <= bytes_max);
                    let next = list.get(frames.len()).map(Frame::disk_bytes);
                    prop_assert!(next.is_none_or(|next| bytes + next > bytes_max), "it is as long as allowed");
                    peeked = frames.len();
                }
                Step::Commit { frames } => {
                    now.commit(frames).unwrap();
                    let gone = frames.min(peeked);
                    list.drain(..gone);
                    peeked -= gone;
                }
                Step::Reopen => {
                    drop(spool.take());
                    let (again, recovered) = Spool::open(config.clone()).unwrap();
                    prop_assert_eq!((recovered.frames, recovered.torn_bytes), (list.len() as u64, 0));
                    (spool, room, peeked) = (Some(again), None, 0);
                }
                Step::Room { bytes } => { now.limit_room(bytes); room = bytes; }
            }
            let SpoolCounts { frames, bytes, damaged_frames, damaged_bytes } = spool.as_ref().unwrap().counts();
            prop_assert_eq!((frames, damaged_frames, damaged_bytes), (list.len() as u64, 0, 0));
            prop_assert!(bytes <= bytes_max);
            let on_disk: u64 = segments(&folder).iter().map(|file| file.metadata().unwrap().len()).sum();
            prop_assert_eq!(bytes, on_disk);
        }
        let mut spool = spool.unwrap();
        prop_assert_eq!(drain(&mut spool), Vec::from(list));
        drop(spool);
        prop_assert!(segments(&folder).is_empty(), "an empty spool leaves nothing behind");
    }

    /// Foreign bytes as segments and as the position.
    #[test]
    fn any_files_are_read_or_passed_over(
        files in proptest::collection::vec((0u64..40, proptest::collection::vec(any::<u8>(), 0..400)), 0..4),
        position in proptest::collection::vec(any::<u8>(), 0..40),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let folder = TempDir::new().unwrap();
        let (mut spool, _) = open(&folder);
        (0..20).for_each(|seq| spool.push(&frame(seq, 200)).unwrap());
        drop(spool);
        for file in segments(&folder) {
            let mut bytes = fs::read(&file).unwrap();
            for (at, byte) in &damage {
                let at = at.index(bytes.len());
                // The header's version is another matter.
                if at >= 16 { bytes[at] = *byte; }
            }
            fs::write(&file, bytes).unwrap();
        }
        for (first, bytes) in files {
            fs::write(folder.path().join(format!("spool/{first:020}.seg")), bytes).unwrap();
        }
        fs::write(folder.path().join("spool/position"), position).unwrap();
        let (mut spool, recovered) = open(&folder);
        spool.push(&frame(99, 10)).unwrap();
        let out = drain(&mut spool);
        prop_assert_eq!(out.last(), Some(&frame(99, 10)));
        prop_assert!(out.is_sorted_by(|a, b| a.seq < b.seq));
        prop_assert_eq!(out.len() as u64 + spool.counts().damaged_frames, recovered.frames + 1);
    }
}

#[test]
fn a_tail_that_is_torn_at_any_byte_costs_one_frame() {
    let folder = TempDir::new().unwrap();
    let (mut spool, _) = open(&folder);
    (0..3).for_each(|seq| spool.push(&frame(seq, 50)).unwrap());
    drop(spool);
    let file = segments(&folder).remove(0);
    let bytes = fs::read(&file).unwrap();
    let one = frame(0, 50).disk_bytes();
    for end in 0..=bytes.len() {
        fs::write(&file, &bytes[..end]).unwrap();
        let (mut spool, recovered) = open(&folder);
        let (whole, torn) = (end.saturating_sub(16) / one, end.saturating_sub(16) % one);
        let lost = u64::from(torn > 0);
        assert_eq!(
            (recovered.frames, recovered.torn_bytes),
            (whole as u64 + lost, torn as u64),
            "cut at {end}"
        );
        spool.push(&frame(7, 10)).unwrap();
        let seqs: Vec<_> = drain(&mut spool).iter().map(|frame| frame.seq).collect();
        assert_eq!(seqs, (0..whole as u64).chain([7]).collect::<Vec<_>>(), "cut at {end}");
        assert_eq!(spool.counts().damaged_frames, lost, "cut at {end}");
        drop(spool);
        fs::write(folder.path().join("spool/position"), "").unwrap();
    }
}

#[test]
fn each_bit_that_flips_costs_a_frame_or_the_rest_of_its_segment_and_is_counted() {
    let folder = TempDir::new().unwrap();
    let (mut spool, _) = open(&folder);
    (0..24).for_each(|seq| spool.push(&frame(seq, 60)).unwrap());
    drop(spool);
    let files = segments(&folder);
    assert_eq!(files.len(), 2);
    let kept: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    let one = frame(0, 60).disk_bytes();
    for at in 16..kept[0].len() {
        for (file, bytes) in files.iter().zip(&kept) {
            fs::write(file, bytes).unwrap();
        }
        let mut damaged = kept[0].clone();
        damaged[at] ^= 1 << (at % 8);
        fs::write(&files[0], damaged).unwrap();
        fs::write(folder.path().join("spool/position"), "").unwrap();
        let (mut spool, recovered) = open(&folder);
        assert_eq!(recovered.frames, 24);
        let out = drain(&mut spool);
        assert!(
            out.is_sorted_by(|a, b| a.seq < b.seq) && out.iter().all(|have| *have == frame(have.seq, 60))
        );
        let lost = spool.counts().damaged_frames;
        assert_eq!(out.len() as u64 + lost, 24, "at {at}");
        let in_header = (at - 16) % one < 20;
        assert!(lost == 1 || in_header, "{lost} lost at {at}");
    }
}

#[test]
fn a_frame_that_does_not_fit_leaves_nothing_behind() {
    let folder = TempDir::new().unwrap();
    let (mut spool, _) = open(&folder);
    spool.push(&frame(0, 100)).unwrap();
    spool.limit_room(Some(90));
    let error = spool.push(&frame(1, 100)).unwrap_err();
    assert_eq!(error.kind(), "disk_full", "{error}");
    spool.limit_room(None);
    spool.push(&frame(2, 10)).unwrap();
    drop(spool);
    let (mut spool, recovered) = open(&folder);
    assert_eq!((recovered.frames, recovered.torn_bytes), (2, 0));
    let seqs: Vec<_> = drain(&mut spool).iter().map(|frame| frame.seq).collect();
    assert_eq!(seqs, [0, 2]);
}

#[test]
fn what_the_disk_has_left_is_for_others() {
    let folder = TempDir::new().unwrap();
    let config = SpoolConfig { free_bytes_min: 10_000, ..config(folder.path(), 1 << 20) };
    let (mut spool, _) = Spool::open(config).unwrap();
    spool.tell_free(Some(10_200));
    spool.push(&frame(0, 100)).unwrap();
    spool.tell_free(Some(10_099));
    let error = spool.push(&frame(1, 100)).unwrap_err();
    assert_eq!(error.kind(), "scarce", "{error}");
    assert!(error.to_string().contains("free_bytes_min"), "{error}");
    // What is there can be read, and when others have made room it is written again.
    assert_eq!(drain(&mut spool).len(), 1);
    spool.tell_free(None);
    spool.push(&frame(2, 100)).unwrap();
    assert_eq!(drain(&mut spool).len(), 1);
}

#[test]
fn a_segment_that_somebody_removed_is_counted() {
    let folder = TempDir::new().unwrap();
    let (mut spool, _) = open(&folder);
    (0..40).for_each(|seq| spool.push(&frame(seq, 100)).unwrap());
    let files = segments(&folder);
    assert!(files.len() > 3);
    fs::remove_file(&files[1]).unwrap();
    let out = drain(&mut spool);
    let lost = spool.counts().damaged_frames;
    assert!(lost > 0 && out.len() as u64 + lost == 40, "{lost} lost, {} read", out.len());
}

#[test]
fn one_process_has_it_and_others_are_told() {
    let folder = TempDir::new().unwrap();
    let (spool, _) = open(&folder);
    let error = Spool::open(config(folder.path(), 1_000)).unwrap_err();
    assert!(matches!(error, SpoolError::Locked { path: _ }) && error.to_string().contains("[spool] path"));
    drop(spool);
    open(&folder);
}

#[test]
fn only_its_owner_may_read_or_write() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = TempDir::new().unwrap();
    let (mut spool, _) = open(&folder);
    spool.push(&frame(0, 10)).unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let path = folder.path().join("spool");
    assert_eq!(mode(&path), 0o700);
    for file in fs::read_dir(&path).unwrap() {
        assert_eq!(mode(&file.unwrap().path()), 0o600);
    }
    drop(spool);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o770)).unwrap();
    let error = Spool::open(config(folder.path(), 1_000)).unwrap_err();
    assert!(error.to_string().contains("chmod 700"), "{error}");
}

#[test]
fn a_later_version_is_refused_and_left_alone() {
    let folder = TempDir::new().unwrap();
    drop(open(&folder));
    let mut header = b"\x89uspool\n\x02\0\0\0".to_vec();
    header.extend(crc32fast::hash(&header).to_le_bytes());
    let path = folder.path().join("spool/00000000000000000005.seg");
    fs::write(&path, &header).unwrap();
    let error = Spool::open(config(folder.path(), 1_000)).unwrap_err();
    assert!(error.to_string().contains("version 2"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), header);
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let folder = TempDir::new().unwrap();
    drop(open(&folder));
    let path = folder.path().join("spool");
    fs::create_dir(path.join("00000000000000000000.seg")).unwrap();
    fs::write(path.join("notes.txt"), "x").unwrap();
    fs::write(path.join("7.seg"), "x").unwrap();
    let (mut spool, recovered) = open(&folder);
    assert_eq!(recovered, Recovered::default());
    // The name is taken; the next one is not.
    assert!(spool.push(&frame(0, 10)).is_err());
    spool.push(&frame(1, 10)).unwrap();
    assert_eq!(drain(&mut spool), [frame(1, 10)]);
    drop(spool);
    assert_eq!(fs::read_dir(&path).unwrap().count(), 5);
}
