//! Where scenarios are played: a broker, connections to it, and time.

use std::time::Duration;

use crate::lang::Setting;

/// A connection of the player to the broker, named by the world that opened it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Connection(pub usize);

/// The world itself failed: no broker there, or a broken promise inside the simulated one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorldError(pub String);

impl std::fmt::Display for WorldError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WorldError {}

/// A broker with connections to it. The player is the same for every world.
pub trait World {
    /// Opens a connection.
    ///
    /// # Errors
    /// The broker cannot be reached.
    fn open(&mut self) -> Result<Connection, WorldError>;

    /// Sends bytes; on a connection that has ended they are lost, as in any network.
    fn send(&mut self, connection: Connection, bytes: &[u8]);

    /// Ends a connection from the client's side.
    fn close(&mut self, connection: Connection);

    /// Moves what has arrived to the end of `inbox`, and says whether the broker has closed.
    fn receive(&mut self, connection: Connection, inbox: &mut Vec<u8>) -> bool;

    /// Goes on until something arrives on any connection. `false`: nothing comes without a further
    /// action or, in memory, without time passing.
    ///
    /// # Errors
    /// The simulated broker broke a promise.
    fn advance(&mut self) -> Result<bool, WorldError>;

    /// Goes on until everything under way has arrived, as far as can be known.
    ///
    /// # Errors
    /// As [`World::advance`].
    fn settle(&mut self) -> Result<(), WorldError>;

    /// Lets time pass.
    ///
    /// # Errors
    /// As [`World::advance`].
    fn wait(&mut self, time: Duration) -> Result<(), WorldError>;

    /// Kills the broker and starts it again with what its log holds.
    ///
    /// # Errors
    /// The broker cannot be commanded.
    fn crash(&mut self) -> Result<(), WorldError>;

    /// Puts other rights in the place of the present ones, and has everybody judged by them.
    ///
    /// # Errors
    /// There are no such rights, or the broker cannot be commanded.
    fn change_rights(&mut self, settings: &[Setting]) -> Result<(), WorldError>;

    /// Whether the broker outlives the scenario, so that the player tidies up behind itself and
    /// cannot know when all is quiet.
    fn is_live(&self) -> bool;
}
