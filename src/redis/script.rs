use super::said::Said;
use ::redis::{Cmd, RedisError, Value, aio::MultiplexedConnection, cmd, pipe};

/// A script, and the hash by which a server knows it.
pub(crate) struct Script {
    text: &'static str,
    hash: String,
}

impl Script {
    pub(crate) fn new(text: &'static str) -> Self {
        Self { text, hash: ::redis::Script::new(text).get_hash().to_owned() }
    }

    /// Calls the script by its hash. If the server does not know the hash, sends the text, which the server then keeps
    /// under the hash. A separate `SCRIPT LOAD` would reach one server only, and would not survive a restart.
    ///
    /// `write` adds the number of keys, the keys and the arguments. `asking` is set if the server is about to get the
    /// keys from another server, and should already answer for them.
    pub(crate) async fn run(
        &self,
        connection: &mut MultiplexedConnection,
        asking: bool,
        write: impl Fn(&mut Cmd),
    ) -> Result<Value, RedisError> {
        let answer = send(connection, asking, "EVALSHA", &self.hash, &write).await;
        match answer {
            Err(error) if Said::of(&error) == Some(Said::NoScript) => {
                send(connection, asking, "EVAL", self.text, &write).await
            }
            answer => answer,
        }
    }
}

async fn send(
    connection: &mut MultiplexedConnection,
    asking: bool,
    name: &str,
    what: &str,
    write: impl Fn(&mut Cmd),
) -> Result<Value, RedisError> {
    let mut command = cmd(name);
    command.arg(what);
    write(&mut command);
    if !asking {
        return command.query_async(connection).await;
    }
    let (answer,) = pipe().cmd("ASKING").ignore().add_command(command).query_async(connection).await?;
    Ok(answer)
}
