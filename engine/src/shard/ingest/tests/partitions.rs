//! How many partitions there are: as many as ever, whatever becomes of their folders.

use super::*;

fn wal(folder: &Folder) -> PathBuf {
    folder.0.join(OWN_FOLDER).join("wal")
}

/// There was one less then, so that series were in two heads.
#[test]
fn partitions_stay_as_many_though_the_last_log_was_moved_away() {
    let folder = Folder::new();
    append(&Ingest::open(&pool(4), folder.options()).unwrap(), 40, STEP).unwrap();
    std::fs::rename(wal(&folder).join("003"), folder.0.join("damaged")).unwrap();
    let ingest = Ingest::open(&pool(2), folder.options()).unwrap();
    let left = ingest.stats("team-a").unwrap().series;
    assert!(ingest.partitions() == 4 && (1..40).contains(&left), "{left}");
    assert_eq!(append(&ingest, 40, 2 * STEP).unwrap().samples, 40);
    assert_eq!(ingest.stats("team-a").unwrap().series, 40);
    let stats = block_on(ingest.flush(None, Flush::All)).unwrap().remove(0).meta.stats;
    assert_eq!((stats.num_series, stats.num_samples), (40, 40 + left));
}

/// It could be cut never again.
#[test]
fn series_that_are_in_two_heads_as_a_partition_was_lost_are_cut_as_one() {
    let folder = Folder::new();
    append(&Ingest::open(&pool(4), folder.options()).unwrap(), 40, STEP).unwrap();
    // As a process left it that wrote no number down.
    std::fs::remove_file(wal(&folder).join("partitions")).unwrap();
    std::fs::rename(wal(&folder).join("003"), folder.0.join("damaged")).unwrap();
    let ingest = Ingest::open(&pool(4), folder.options()).unwrap();
    let left = ingest.stats("team-a").unwrap().series;
    assert_eq!(append(&ingest, 40, 2 * STEP).unwrap().samples, 40);
    assert!(ingest.partitions() == 3 && ingest.stats("team-a").unwrap().series > 40);
    let stats = block_on(ingest.flush(None, Flush::All)).unwrap().remove(0).meta.stats;
    assert_eq!((stats.num_series, stats.num_samples, ingest.stats("team-a").unwrap().series), (40, 40 + left, 0));
}

#[test]
fn a_number_of_partitions_is_written_once_and_one_that_cannot_be_is_refused_with_a_way_out() {
    let (folder, pool) = (Folder::new(), pool(3));
    let path = wal(&folder).join("partitions");
    for _ in 0..2 {
        assert_eq!(Ingest::open(&pool, folder.options()).unwrap().partitions(), 3);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "3\n");
        std::fs::remove_file(&path).unwrap();
    }
    for text in ["", "\0\0", "0", "33333", "2\n"] {
        std::fs::write(&path, text).unwrap();
        let why = if text == "2\n" { "there are 2 partitions, beside the folder 002" } else { "no number" };
        let error = Ingest::open(&pool, folder.options()).err().unwrap();
        let parts = [path.to_str().unwrap(), why, "write into it how many there are"];
        assert!(parts.iter().all(|part| error.message().contains(part)), "{error}");
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
    std::fs::write(&path, " 5").unwrap();
    assert_eq!(Ingest::open(&pool, folder.options()).unwrap().partitions(), 5);
}
