use super::DemoArgs;
use super::terminal::Terminal;
use crate::error::Result;
pub fn run(_: &DemoArgs, _: &mut Terminal) -> Result {
    Ok(())
}
