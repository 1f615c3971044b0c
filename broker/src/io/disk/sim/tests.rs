//! The simulated disk keeps what was synced and gambles with the rest.

use super::*;

fn write(disk: &SimDisk, path: &str, bytes: &[u8], position: u64) -> Arc<dyn DiskFile> {
    let file = disk.open(Path::new(path), OpenMode::Create).expect("opened");
    file.write_all_at(&[IoSlice::new(bytes)], position).expect("written");
    file
}

fn read(disk: &SimDisk, path: &str) -> Option<Vec<u8>> {
    let file = disk.open(Path::new(path), OpenMode::Read).ok()?;
    let mut bytes = vec![0; file.len().expect("length") as usize];
    file.read_exact_at(&mut bytes, 0).expect("read");
    Some(bytes)
}

#[test]
fn synced_contents_and_names_survive_every_crash() {
    for seed in 0..200 {
        let disk = SimDisk::new();
        disk.create_dir_all(Path::new("/a/b")).expect("made");
        write(&disk, "/a/b/f", &[7; 1300], 0).sync_data().expect("synced");
        for folder in ["/a/b", "/a", "/"] {
            disk.sync_dir(Path::new(folder)).expect("synced");
        }
        write(&disk, "/a/b/f", &[8; 600], 1300);
        let after = read(&disk.crash(seed), "/a/b/f").expect("the name is durable");
        assert_eq!(after[..1300], [7; 1300]);
        assert!(after[1300..].iter().all(|byte| [0, 8].contains(byte)));
    }
}

#[test]
fn unsynced_sectors_names_and_lengths_are_kept_lost_and_torn() {
    let (mut kept, mut lost, mut torn, mut nameless) = (0, 0, 0, 0);
    for seed in 0..300 {
        let disk = SimDisk::new();
        write(&disk, "/f", &[1; 1536], 0).sync_data().expect("synced");
        write(&disk, "/f", &[2; 1536], 0);
        match read(&disk.crash(seed), "/f") {
            None => nameless += 1,
            Some(bytes) if bytes == [1; 1536] => lost += 1,
            Some(bytes) if bytes == [2; 1536] => kept += 1,
            Some(bytes) => {
                assert!(bytes.chunks(SECTOR).all(|sector| sector.iter().all(|byte| *byte == sector[0])));
                torn += 1;
            }
        }
    }
    assert!(kept > 10 && lost > 10 && torn > 10 && nameless > 10, "{kept} {lost} {torn} {nameless}");
}

#[test]
fn a_seed_repeats_its_crash() {
    let disk = SimDisk::new();
    disk.sync_dir(Path::new("/")).expect("synced");
    write(&disk, "/f", &[3; 5000], 0);
    for seed in 0..20 {
        assert_eq!(read(&disk.crash(seed), "/f"), read(&disk.crash(seed), "/f"));
    }
}

#[test]
fn a_rename_survives_whole_or_not_at_all() {
    for seed in 0..100 {
        let disk = SimDisk::new();
        write(&disk, "/old", &[1], 0).sync_data().expect("synced");
        write(&disk, "/new", &[2], 0).sync_data().expect("synced");
        disk.sync_dir(Path::new("/")).expect("synced");
        disk.rename(Path::new("/old"), Path::new("/new")).expect("renamed");
        let after = disk.crash(seed);
        let names = (read(&after, "/old"), read(&after, "/new"));
        assert!([(None, Some(vec![1])), (Some(vec![1]), Some(vec![2]))].contains(&names), "{names:?}");
    }
}

#[test]
fn a_kill_keeps_the_page_cache_and_frees_locks() {
    let disk = SimDisk::new();
    write(&disk, "/f", &[5; 100], 0);
    let _guard = disk.lock(Path::new("/lock")).expect("locked");
    assert!(disk.lock(Path::new("/lock")).is_err());
    let after = disk.kill();
    assert_eq!(read(&after, "/f").expect("there"), [5; 100]);
    assert!(after.lock(Path::new("/lock")).is_ok());
    assert!(disk.exists(Path::new("/f")).is_err(), "the old machine is gone");
}

#[test]
fn the_machine_stops_before_or_after_the_chosen_operation() {
    for (point, written) in [(1, false), (2, true)] {
        let disk = SimDisk::new();
        let file = disk.open(Path::new("/f"), OpenMode::Create).expect("made");
        disk.crash_at(point);
        assert!(file.write_all_at(&[IoSlice::new(&[1; 10])], 0).is_err());
        assert!(disk.has_crashed() && file.len().is_err());
        assert_eq!(read(&disk.kill(), "/f").expect("there").is_empty(), !written);
    }
}

#[test]
fn injected_errors_hit_the_chosen_operation_once() {
    let disk = SimDisk::new();
    disk.fail(Operation::Sync, "f", 2, 5);
    let file = write(&disk, "/f", &[1], 0);
    assert!(file.sync_data().is_ok());
    assert_eq!(file.sync_data().expect_err("the second").raw_os_error(), Some(5));
    assert!(file.sync_data().is_ok());
}

#[test]
fn a_full_disk_takes_what_fits() {
    let disk = SimDisk::new();
    disk.set_capacity(Some(1000));
    let file = write(&disk, "/f", &[1; 900], 0);
    let error = file.write_all_at(&[IoSlice::new(&[2; 60]), IoSlice::new(&[3; 60])], 900).expect_err("full");
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!((file.len().expect("length"), disk.free_bytes(Path::new("/")).expect("free")), (1000, 0));
    disk.remove_file(Path::new("/f")).expect("removed");
    assert_eq!(disk.free_bytes(Path::new("/")).expect("free"), 1000);
}
