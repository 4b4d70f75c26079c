//! What is to go into a file that keeps its own name.

use super::*;

#[test]
fn what_is_written_into_a_file_under_its_own_name_waits_until_it_is_adopted() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("t")).unwrap();
    let (left_out, there) = (folder.path().join("t/a"), vec![7; PIECE as usize + 100]);
    fs::write(&left_out, &there).unwrap();
    let files = [entry("t/a", PIECE + 100), entry("t/b", PIECE)];
    on_a_ring(async |core| {
        let store = store(folder.path(), &files).unwrap();
        let good = |file: FileIndex| u32::from(file.as_usize() == 0);
        store.prepare(TORRENT, good, |_| Extent::Shared, |file| file.as_usize() == 0).unwrap();
        let (access, piece) = (Access::new(Arc::clone(&store), 1), store.layout().piece(1).unwrap());
        let put = async |byte| {
            let mut slab = core.arena.take().unwrap();
            slab.write(0, &[byte; PIECE as usize]);
            access.write(piece, 0, PIECE as u32, &slab.seal().ok().unwrap()).await.unwrap();
        };
        let read = async || {
            let slab = core.arena.take().unwrap();
            let slab = access.read(piece, 0, PIECE as u32, 0, slab).await.unwrap();
            [0, 99, 100].map(|at| slab.bytes(0..PIECE as usize)[at])
        };
        put(1).await;
        assert!(fs::read(&left_out).unwrap() == there, "nobody knows yet whether it is right");
        assert_eq!(read().await, [1; 3], "who sent what is found out from what was sent");
        access.give_up(piece);
        assert_eq!(read().await, [7, 7, 1], "it came out wrong");
        put(2).await;
        access.adopt(piece).await.unwrap();
        assert_eq!(read().await, [2; 3]);
        let now = fs::read(&left_out).unwrap();
        assert!(now[..PIECE as usize] == there[..PIECE as usize] && now[PIECE as usize..] == [2; 100]);
    });
    assert_eq!(names(folder.path()), ["t/a", "t/b.part"], "nothing is left of where it waited");
}
