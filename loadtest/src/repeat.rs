//! `--repeat`: a command several times, each run into a folder of its own, and a summary of all.

use anyhow::Context;

use crate::{
    Ended, Usage,
    cli::{Export, Output},
    compare,
    report::{Report, export},
};

/// Runs a command `--repeat` times. The outcome is that of the worst run.
pub(crate) fn run(
    output: &Output,
    mut once: impl FnMut(Output) -> anyhow::Result<Ended>,
) -> anyhow::Result<Ended> {
    if output.repeat == 1 {
        return once(output.clone());
    }
    let folder = |number: u32| output.out.join(number.to_string());
    // A comparison takes all results of a folder for runs of one kind.
    let out = output.out.display();
    if output.out.join("result.json").exists() {
        return Err(Usage(format!(
            "--out {out} holds the result of a single run: name another folder"
        ))
        .into());
    }
    if folder(1).join("result.json").exists() {
        return Err(Usage(format!(
            "--out {out} holds runs of an earlier --repeat: name another folder"
        ))
        .into());
    }
    let (mut reports, mut worst, mut failure) = (Vec::new(), Ended::Well, None);
    for number in 1..=output.repeat {
        eprintln!("run {number} of {}", output.repeat);
        let own = Output {
            out: folder(number),
            repeat: 1,
            export: Export::default(),
            ..output.clone()
        };
        let file = own.out.join("result.json");
        let ended = once(own).with_context(|| format!("run {number} of {}", output.repeat));
        if file.exists() {
            reports.push(Report::read(&file)?);
        }
        match ended {
            Ok(ended) => worst = worst.max(ended),
            Err(error) => failure = Some(error),
        }
        if failure.is_some() || worst == Ended::Interrupted {
            break;
        }
    }
    // Those before a run that failed are measured all the same.
    if !reports.is_empty() {
        println!("{}", compare::summary(&reports));
        export::write(&reports, &output.export)?;
    }
    failure.map_or(Ok(worst), Err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample;

    #[test]
    fn runs_are_kept_apart_and_the_worst_end_counts() -> anyhow::Result<()> {
        let out = std::env::temp_dir().join(uuid::Uuid::new_v4().to_string());
        let output = Output {
            out: out.clone(),
            slos: Vec::new(),
            repeat: 3,
            export: Export {
                csv: Some(out.join("all.csv")),
                junit: None,
            },
        };
        let mut ends = vec![Ended::Well, Ended::Breached, Ended::Poorly];
        let ended = run(&output, |output| {
            assert!(output.repeat == 1 && output.export.csv.is_none());
            sample().write(&output.out)?;
            ends.pop().context("three runs")
        })?;
        assert_eq!(ended, Ended::Breached);
        assert!(out.join("3/result.json").exists());
        let csv = std::fs::read_to_string(out.join("all.csv"))?;
        assert!(csv.contains("\n3,open.grpc.hit.p50,us,300,"), "{csv}");
        let error = run(&output, |_| Ok(Ended::Well)).unwrap_err();
        assert!(error.is::<Usage>(), "{error}");
        std::fs::remove_dir_all(&out)?;
        sample().write(&out)?;
        let error = run(&output, |_| Ok(Ended::Well)).unwrap_err();
        assert!(error.to_string().contains("a single run"), "{error}");
        std::fs::remove_dir_all(&out)?;
        let mut number = 0;
        let error = run(&output, |output| {
            number += 1;
            if number == 2 {
                anyhow::bail!("the stack is gone")
            }
            sample().write(&output.out)?;
            Ok(Ended::Well)
        });
        assert!(format!("{:#}", error.unwrap_err()).contains("run 2 of 3: the stack is gone"));
        assert!(out.join("all.csv").exists(), "the first run is kept");
        std::fs::remove_dir_all(out)?;
        Ok(())
    }
}
