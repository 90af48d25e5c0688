//! Where the children of an interactive session's spawns go, if its environment names several hosts.
//!
//! Each spawn of a session is a job, with an mpiexec of its own, which would begin at the first host again. Under
//! `mpiexec -n 1` one mpiexec serves all spawns, and fills the hosts one after the other (HYDU_gen_rankmap in
//! src/pm/hydra/lib/utils/rankmap.c of MPICH). So the agent counts what its jobs have taken, and gives the next mpiexec
//! the hosts in the order in which it has to fill them. Intel MPI's `-hosts` knows no number of processes: it is left out.

use std::num::NonZeroU16;
use std::process::Command;

use super::context::Context;
use crate::pmi::message::Message;

/// A process's place on a host: its number among the places of all hosts.
type Place = usize;

/// The places that a spawn's children take.
#[derive(Default)]
pub struct Chosen {
    pub places: Vec<Place>,
    /// The value of hydra's `-hosts` for them. `None`: hydra takes the same by itself.
    pub hosts: Option<String>,
}

/// The places that there are.
pub struct Places {
    /// The host of each place. The first one is the application's.
    hosts: Vec<String>,
}

impl Places {
    /// Those of the hosts that hydra finds in this context, if it finds more than one, and a host list can name them all.
    pub fn of(context: &Context) -> Option<Places> {
        let variable = |name: &str| Some(context.variable(name)?.to_str()?.to_owned());
        let file =
            |name| std::fs::read_to_string(context.entrance.join(context.variable(name)?)).ok();
        let hosts = match file("HYDRA_HOST_FILE") {
            Some(text) => listed(&text)?,
            None => match variable("SLURM_JOB_NODELIST").or_else(|| variable("SLURM_NODELIST")) {
                Some(nodes) => allocated(&nodes, &variable("SLURM_TASKS_PER_NODE")?)?,
                None => listed(&file("PBS_NODEFILE")?)?,
            },
        };
        let first = hosts.first()?;
        let several = hosts.iter().any(|host| host != first);
        several.then_some(Places { hosts })
    }

    /// Places for this spawn's children, where others are taken. None if the application itself says where they go.
    pub fn of_spawn(&self, spawn: &Message, taken: impl Iterator<Item = Place>) -> Chosen {
        let mut lines = spawn.bytes().split(|&byte| byte == b'\n');
        let key = |line: &'_ [u8]| {
            let key = line.split(|&byte| byte == b'=').nth(1);
            line.starts_with(b"info_key_") && key.is_some_and(|key| key.starts_with(b"host"))
        };
        if lines.any(key) {
            return Chosen::default();
        }
        let places = self.choose(spawn.total_processes(), taken);
        let hosts = self.in_order(&places);
        Chosen { places, hosts }
    }

    /// Places for this many children: each time the first of those that have the fewest processes.
    fn choose(&self, count: usize, taken: impl Iterator<Item = Place>) -> Vec<Place> {
        let mut processes = vec![0; self.hosts.len()];
        processes[0] = 1;
        for place in taken {
            // The list may have been a longer one.
            if let Some(count) = processes.get_mut(place) {
                *count += 1;
            }
        }
        let choose_one = |_| {
            let all = processes.iter_mut().enumerate();
            let (place, fewest) = all.min_by_key(|(_, count)| **count)?;
            *fewest += 1;
            Some(place)
        };
        (0..count).map_while(choose_one).collect()
    }

    /// The value of hydra's `-hosts` that puts the bridge into the first place, and then children into these. `None`: hydra
    /// would do the same by itself.
    fn in_order(&self, chosen: &[Place]) -> Option<String> {
        if chosen.iter().copied().eq(1..=chosen.len()) {
            return None;
        }
        let others = (1..self.hosts.len()).filter(|place| !chosen.contains(place));
        let mut order: Vec<(&str, usize)> = Vec::new();
        let first = std::iter::once(0).chain(chosen.iter().copied());
        for place in first.chain(others) {
            let host = self.hosts[place].as_str();
            match order.last_mut() {
                Some((last, count)) if *last == host => *count += 1,
                _ => order.push((host, 1)),
            }
        }
        let order = order.iter().map(|(host, count)| format!("{host}:{count}"));
        Some(order.collect::<Vec<_>>().join(","))
    }
}

/// The places of a host file: `HOST` or `HOST:N` in each line (HYDU_process_mfile_token in src/pm/hydra/lib/utils/args.c
/// of MPICH). `None` if a line has more, which a host list can't say.
fn listed(text: &str) -> Option<Vec<String>> {
    let lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim());
    let mut hosts = Vec::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let (host, count) = line.split_once(':').unwrap_or((line, "1"));
        let count: NonZeroU16 = count.parse().ok()?;
        hosts.extend(std::iter::repeat_n(host.to_owned(), count.get().into()));
    }
    let is_plain = !hosts.iter().any(|host| host.contains(char::is_whitespace));
    is_plain.then_some(hosts)
}

/// The places of Slurm's nodes. `tasks` is for example `2(x3),1`: three nodes with two tasks, one with one.
fn allocated(nodes: &str, tasks: &str) -> Option<Vec<String>> {
    let mut scontrol = Command::new("scontrol");
    scontrol.args(["show", "hostnames", nodes]);
    let output = scontrol.output().ok()?;
    let names = String::from_utf8(output.stdout).ok()?;
    let mut counts = Vec::new();
    for group in tasks.split(',') {
        let (count, nodes) = group.split_once("(x").unwrap_or((group, "1)"));
        let nodes = nodes.strip_suffix(')')?.parse().ok()?;
        let count: NonZeroU16 = count.parse().ok()?;
        counts.extend(std::iter::repeat_n(usize::from(count.get()), nodes));
    }
    let pairs = names.lines().zip(counts);
    let hosts = pairs.flat_map(|(host, count)| std::iter::repeat_n(host.to_owned(), count));
    Some(hosts.collect())
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    fn context(variables: &[(&str, &str)]) -> Context {
        let variables = variables
            .iter()
            .map(|(name, value)| (name.into(), value.into()));
        Context {
            environment: Rc::new(variables.collect()),
            directory: None,
            entrance: "/".into(),
        }
    }

    fn places(text: &str) -> Places {
        Places {
            hosts: listed(text).unwrap(),
        }
    }

    #[test]
    fn a_spawn_goes_on_where_the_last_one_ended() {
        let places = places("a\nb:2\n# nothing\nc   # the last\n");
        let choose = |count, taken: &[Place]| {
            let chosen = places.choose(count, taken.iter().copied());
            let order = places.in_order(&chosen).unwrap_or_default();
            (chosen, order)
        };
        assert_eq!(
            choose(1, &[]),
            (vec![1], String::new()),
            "hydra's own order"
        );
        assert_eq!(choose(2, &[1]), (vec![2, 3], "a:1,b:1,c:1,b:1".to_owned()));
        assert_eq!(
            choose(2, &[1, 2, 3]),
            (vec![0, 1], "a:2,b:2,c:1".to_owned())
        );
        assert_eq!(choose(1, &[1, 3]).0, [2], "a place that was freed");
    }

    #[test]
    fn an_application_that_names_a_host_is_left_to_hydra() {
        let places = places("a\nb\nc");
        let spawn = |info: &str| {
            let text = format!("mcmd=spawn\nnprocs=2\nexecname=x\n{info}endcmd");
            places
                .of_spawn(&Message::line(text), std::iter::empty())
                .places
        };
        assert_eq!(spawn(""), [1, 2]);
        assert_eq!(spawn("info_key_0=wdir\ninfo_val_0=/\n"), [1, 2]);
        assert!(spawn("info_key_0=host\ninfo_val_0=c\n").is_empty());
    }

    #[test]
    fn a_host_file_with_more_than_hosts_is_left_to_hydra() {
        assert!(listed("a:2 binding=core\nb").is_none());
        assert!(listed("a:x\nb").is_none());
        assert!(listed("a:0\nb").is_none());
        let of = |text: &str| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(&file, text).unwrap();
            let path = file.path().to_str().unwrap().to_owned();
            Places::of(&context(&[("HYDRA_HOST_FILE", &path)]))
        };
        assert!(of("a:4\n").is_none(), "one host");
        assert_eq!(of("a:1\nb\n").unwrap().hosts, ["a", "b"]);
        assert!(Places::of(&context(&[])).is_none());
    }
}
