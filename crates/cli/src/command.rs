//! The commands: ask the cluster, print the answer.

mod alarm;
mod backup;
mod event;
mod files;
mod guest_credential;
mod job;
mod login;
mod node;
mod point;
mod policy;
mod proxy;
mod readiness;
mod repository;
mod restore;
mod run;
mod serve;
mod shell;
mod task;
mod token;
mod vcenter;
mod vm;

use stillwater_types::Fault;

use crate::arguments::{Arguments, Command, Format};
use crate::context::Contexts;
use crate::exit::Outcome;
use crate::session::Session;

/// What a command needs to ask and to answer.
pub(crate) struct Desk {
    session: Session,
    format: Format,
}

/// Runs the command of a command line.
pub(crate) async fn run(arguments: Arguments) -> Result<Outcome, Fault> {
    let Arguments {
        context,
        output: format,
        command,
    } = arguments;
    let desk = async || -> Result<Desk, Fault> {
        let context = Contexts::of_user()?.open(context.as_deref())?;
        Ok(Desk {
            session: Session::open(context).await?,
            format,
        })
    };
    match command {
        Command::Login(login) => login::run(login).await,
        Command::Context(context) => login::contexts(context, format),
        Command::Token(token) => token::run(&desk().await?, token).await,
        Command::Node(node) => node::run(&desk().await?, node).await,
        Command::Proxy(proxy) => proxy::run(&desk().await?, proxy).await,
        Command::Vcenter(vcenter) => vcenter::run(&desk().await?, vcenter).await,
        Command::Vm(vm) => vm::run(&desk().await?, vm).await,
        Command::Readiness(asked) => readiness::run(&desk().await?, asked).await,
        Command::GuestCredential(credential) => {
            guest_credential::run(&desk().await?, credential).await
        }
        Command::Backup(backup) => backup::run(&desk().await?, backup).await,
        Command::Run(run) => run::run(&desk().await?, run).await,
        Command::Point(point) => point::run(&desk().await?, point).await,
        Command::Repository(repository) => repository::run(&desk().await?, repository).await,
        Command::Policy(policy) => policy::run(&desk().await?, policy).await,
        Command::Job(job) => job::run(&desk().await?, job).await,
        Command::Event(event) => event::run(&desk().await?, event).await,
        Command::Alarm(alarm) => alarm::run(&desk().await?, alarm).await,
        Command::Files(files) => files::run(&desk().await?, files).await,
        Command::Restore(restore) => restore::run(&desk().await?, restore).await,
        Command::Completion { shell } => shell::completion(shell),
        Command::Man { dir } => shell::man(&dir),
    }
}
