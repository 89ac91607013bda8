//! Exchanges of more than one call of MPI takes: this test starts itself again under `mpirun` (feature `mpi`).

mod mpi {
    use openclip_tests::processes::launch;
    use openclip_train::comm::Communicator;
    use openclip_train::comm::mpi::MpiRank;

    #[test]
    #[ignore = "run by more_than_a_call_takes_goes_in_pieces"]
    fn pieces_of_a_process() {
        let ranks = MpiRank::join().unwrap().with_calls_of(64);
        let (rank, world) = (ranks.rank(), ranks.world_size());
        let given = |rank: usize| -> Vec<u8> {
            let bytes = (0..rank * 1000).map(|i| (i * 7 + rank) as u8);
            bytes.collect()
        };
        for _ in 0..3 {
            let all = ranks.all_gather(&given(rank)).unwrap();
            assert_eq!(all, (0..world).map(given).collect::<Vec<_>>());
            let mut values: Vec<f32> = (0..1000).map(|i| (i + rank) as f32).collect();
            ranks.all_reduce(&mut values).unwrap();
            let others = world * (world - 1) / 2;
            let sums = (0..1000).map(|i| (world * i + others) as f32);
            assert_eq!(values, sums.collect::<Vec<_>>());
        }
    }

    #[test]
    fn more_than_a_call_takes_goes_in_pieces() {
        let dir = tempfile::tempdir().unwrap();
        for world in [2, 3] {
            launch(world, pieces_of_a_process, dir.path());
        }
    }
}
