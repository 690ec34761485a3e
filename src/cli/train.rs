use super::TrainArgs;
use super::terminal::Terminal;
use crate::error::Result;
pub fn run(_: &TrainArgs, _: &mut Terminal) -> Result {
    Ok(())
}
