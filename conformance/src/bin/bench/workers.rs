//! Our broker with one worker thread and with two.

use crate::Result;
use crate::arguments::Scenario;
use crate::contender::Contender;
use crate::messages::{self, Run};
use crate::rig::recipe::our_binary;
use crate::rounds::{Bench, cells, columns};
use crate::scenario;
use crate::table::{Better, Comparison};

pub(crate) fn table(bench: &mut Bench) -> Result<String> {
    let ours = bench.contenders.iter().find(|contender| contender.is_ours);
    let binary = match ours {
        Some(ours) => ours.recipe.program.clone(),
        None => our_binary(bench.arguments.broker.clone())?,
    };
    let contenders = [1, 2].map(|workers| {
        let mut contender = Contender::cairnmq(&binary, Some(workers));
        contender.recipe.name = format!("--workers {workers}");
        contender
    });
    let heads = ["scenario", "QoS"];
    let table = |title: &str| Comparison::new(title, &heads, columns(&contenders));
    let mut cpu = table("Processor time of cairnmq, us per delivered message:");
    let mut rate = table("Delivered messages per second:");
    for scenario in [Scenario::Pairs, Scenario::FanOut] {
        let name = scenario::label(scenario);
        for qos in bench.arguments.qos.clone().into_iter().filter(|&qos| qos < 2) {
            let plan = scenario::plan(scenario, qos, &bench.arguments);
            let limit = bench.arguments.limit(plan.deliveries_per_round());
            let row = format!("workers, {name}, QoS {qos}");
            let runs = bench.in_turn_of(&contenders, &row, &[], |broker, _| {
                messages::measure(broker, &plan, limit)
            })?;
            let level = qos.to_string();
            cpu.row(&[name, &level], Better::Neither, cells(&runs, Run::cpu_us));
            rate.row(&[name, &level], Better::Neither, cells(&runs, Run::rate));
        }
    }
    Ok(format!("{}\n{}", cpu.render(), rate.render()))
}
