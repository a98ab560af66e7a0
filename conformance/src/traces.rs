//! Traces of closed worlds that once led to a mistake, kept as files.
//!
//! A file has the mistake and the property that it broke in its first line, the world in its second,
//! and then one operation a line. Without the mistake the trace breaks nothing, and the world drains
//! after it.

use std::{fmt, str::FromStr, sync::Arc};

use crate::{
    explore::models,
    swarm,
    universe::{Finding, Op, Setup, Universe},
};

/// A world that has a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum World {
    /// A model of the explorer.
    Model(String),
    /// The world of a seed of the swarm.
    Seed(u64),
}

/// Operations in a world, and what they once led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The mistake.
    pub mistake: String,
    /// The property that it broke.
    pub property: String,
    /// Where.
    pub world: World,
    /// How.
    pub ops: Vec<Op>,
}

impl World {
    /// Its beginning; `None` if no model has this name.
    pub fn setup(&self) -> Option<Arc<Setup>> {
        match self {
            Self::Model(name) => {
                let mut all = models::all().into_iter();
                Some(Arc::new(all.find(|model| model.name == name)?.setup))
            }
            Self::Seed(seed) => Some(swarm::setup_of(*seed)),
        }
    }
}

impl Trace {
    /// Does it all again, and lets the world drain.
    ///
    /// # Errors
    /// A property is broken, or there is no such world.
    pub fn replay(&self) -> Result<(), Finding> {
        let unknown = || Finding::new("no-such-world", format!("{:?}", self.world));
        let mut universe = Universe::new(self.world.setup().ok_or_else(unknown)?)?;
        for op in &self.ops {
            universe.apply(*op)?;
        }
        universe.drain()
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.mistake, self.property)?;
        match &self.world {
            World::Model(name) => writeln!(f, "model {name}")?,
            World::Seed(seed) => writeln!(f, "seed {seed}")?,
        }
        self.ops.iter().try_for_each(|op| writeln!(f, "{op}"))
    }
}

impl FromStr for Trace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut lines = text.lines();
        let (mistake, property) = lines
            .next()
            .and_then(|line| line.split_once(": "))
            .ok_or("the first line is MISTAKE: PROPERTY")?;
        let world = match lines.next().and_then(|line| line.split_once(' ')) {
            Some(("model", name)) => World::Model(name.into()),
            Some(("seed", seed)) => World::Seed(seed.parse().map_err(|e| format!("{seed}: {e}"))?),
            _ => return Err("the second line is model NAME or seed NUMBER".into()),
        };
        let ops = lines.map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self { mistake: mistake.into(), property: property.into(), world, ops })
    }
}
