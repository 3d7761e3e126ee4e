//! docker's other spellings: commands in groups (`image ls`, `buildx build`, `system df`), each of
//! which is one of kiln's own.

use clap::Subcommand;

use super::{
    BuildArgs, Command, DuArgs, HistoryArgs, ImagesArgs, InspectArgs, LoadArgs, PruneArgs,
    PullArgs, PushArgs, RmiArgs, RunArgs, SaveArgs, TagArgs,
};

/// Commands that hold commands.
#[derive(Subcommand)]
pub(crate) enum Group {
    /// docker's spellings: image build, history, inspect, load, ls, pull, push, rm, save, tag
    #[command(subcommand)]
    Image(ImageGroup),
    /// docker's spellings: buildx build, du, prune
    #[command(subcommand, alias = "builder")]
    Buildx(BuildxGroup),
    /// docker's spellings: system df, info, prune
    #[command(subcommand)]
    System(SystemGroup),
    /// docker's spelling: container run
    #[command(subcommand)]
    Container(ContainerGroup),
}

#[derive(Subcommand)]
pub(crate) enum ImageGroup {
    /// kiln build
    Build(Box<BuildArgs>),
    /// kiln history
    History(HistoryArgs),
    /// kiln inspect
    Inspect(InspectArgs),
    /// kiln images
    #[command(alias = "list")]
    Ls(ImagesArgs),
    /// kiln load
    Load(LoadArgs),
    /// kiln pull
    Pull(PullArgs),
    /// kiln push
    Push(PushArgs),
    /// kiln rmi
    #[command(alias = "remove")]
    Rm(RmiArgs),
    /// kiln save
    Save(SaveArgs),
    /// kiln tag
    Tag(TagArgs),
}

#[derive(Subcommand)]
pub(crate) enum BuildxGroup {
    /// kiln build
    #[command(alias = "b")]
    Build(Box<BuildArgs>),
    /// kiln du
    Du(DuArgs),
    /// kiln prune
    Prune(PruneArgs),
}

#[derive(Subcommand)]
pub(crate) enum SystemGroup {
    /// kiln du
    Df(DuArgs),
    /// kiln info
    Info,
    /// kiln prune
    Prune(PruneArgs),
}

#[derive(Subcommand)]
pub(crate) enum ContainerGroup {
    /// kiln run
    Run(Box<RunArgs>),
}

impl Group {
    /// The command that is meant.
    pub(crate) fn command(self) -> Command {
        match self {
            Group::Image(ImageGroup::Build(args)) | Group::Buildx(BuildxGroup::Build(args)) => {
                Command::Build(args)
            }
            Group::Image(ImageGroup::History(args)) => Command::History(args),
            Group::Image(ImageGroup::Inspect(args)) => Command::Inspect(args),
            Group::Image(ImageGroup::Ls(args)) => Command::Images(args),
            Group::Image(ImageGroup::Load(args)) => Command::Load(args),
            Group::Image(ImageGroup::Pull(args)) => Command::Pull(args),
            Group::Image(ImageGroup::Push(args)) => Command::Push(args),
            Group::Image(ImageGroup::Rm(args)) => Command::Rmi(args),
            Group::Image(ImageGroup::Save(args)) => Command::Save(args),
            Group::Image(ImageGroup::Tag(args)) => Command::Tag(args),
            Group::Buildx(BuildxGroup::Du(args)) | Group::System(SystemGroup::Df(args)) => {
                Command::Du(args)
            }
            Group::Buildx(BuildxGroup::Prune(args)) | Group::System(SystemGroup::Prune(args)) => {
                Command::Prune(args)
            }
            Group::System(SystemGroup::Info) => Command::Info,
            Group::Container(ContainerGroup::Run(args)) => Command::Run(args),
        }
    }
}
