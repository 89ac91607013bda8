//! Which rank this process is, as its launcher says in the environment.

use super::CommError;

/// Which of the processes that were started together this one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessRank {
    /// Number of the process, from zero.
    pub rank: usize,
    /// How many processes there are.
    pub world_size: usize,
    /// Number of the process on its node, which chooses its device.
    pub local_rank: usize,
    /// The variable that says how many there are.
    pub told_by: &'static str,
}

/// Variables of torchrun, MPI (PMI), SLURM and Open MPI, in the order in which OpenCLIP asks for them.
const LOCAL_RANK: [&str; 4] = [
    "LOCAL_RANK",
    "MPI_LOCALRANKID",
    "SLURM_LOCALID",
    "OMPI_COMM_WORLD_LOCAL_RANK",
];
const RANK: [&str; 4] = ["RANK", "PMI_RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK"];
const WORLD_SIZE: [&str; 4] = [
    "WORLD_SIZE",
    "PMI_SIZE",
    "SLURM_NTASKS",
    "OMPI_COMM_WORLD_SIZE",
];

impl ProcessRank {
    /// What the environment says; `None` where no launcher has spoken, or for a single process.
    ///
    /// # Errors
    /// When a variable holds no number, or the rank is none of the world's.
    pub fn of_environment() -> Result<Option<Self>, CommError> {
        Self::read(|name| std::env::var(name).ok())
    }

    fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, CommError> {
        let named = |names: [&'static str; 4]| {
            let found = names
                .into_iter()
                .find_map(|name| Some((name, variable(name)?)));
            found
                .map(|(name, text)| match text.trim().parse::<usize>() {
                    Ok(number) => Ok((name, number)),
                    Err(_) => Err(CommError::Setup(format!(
                        "environment: {name}={text} is no number; --single-process does not ask for it"
                    ))),
                })
                .transpose()
        };
        let number = |names| Ok(named(names)?.map(|(_, number)| number));
        let Some((told_by, world_size)) = named(WORLD_SIZE)?.filter(|(_, size)| *size > 1) else {
            return Ok(None);
        };
        let rank = number(RANK)?.unwrap_or(0);
        if rank >= world_size {
            let reason = format!(
                "environment: rank {rank} of {world_size} processes ({told_by}); --single-process does not ask for either"
            );
            return Err(CommError::Setup(reason));
        }
        let local_rank = number(LOCAL_RANK)?.unwrap_or(0);
        Ok(Some(Self {
            rank,
            world_size,
            local_rank,
            told_by,
        }))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Option<ProcessRank>, CommError> {
        ProcessRank::read(|name| {
            let found = pairs.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn every_launcher_is_understood() {
        for names in [
            ["RANK", "WORLD_SIZE", "LOCAL_RANK"],
            ["PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"],
            ["SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"],
            [
                "OMPI_COMM_WORLD_RANK",
                "OMPI_COMM_WORLD_SIZE",
                "OMPI_COMM_WORLD_LOCAL_RANK",
            ],
        ] {
            let pairs = [(names[0], "5"), (names[1], "8"), (names[2], "1")];
            let process = ProcessRank {
                rank: 5,
                world_size: 8,
                local_rank: 1,
                told_by: names[1],
            };
            assert_eq!(read(&pairs).unwrap(), Some(process));
        }
        assert_eq!(read(&[]).unwrap(), None);
        assert_eq!(read(&[("SLURM_NTASKS", "1")]).unwrap(), None);
    }

    #[test]
    fn nonsense_is_named() {
        let error = read(&[("WORLD_SIZE", "many")]).unwrap_err().to_string();
        assert!(error.contains("WORLD_SIZE=many"), "{error}");
        let error = read(&[("WORLD_SIZE", "2"), ("RANK", "2")]).unwrap_err();
        assert!(error.to_string().contains("rank 2 of 2"), "{error}");
    }
}
