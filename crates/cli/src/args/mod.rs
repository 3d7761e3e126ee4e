//! The command line as clap sees it: words and flags, docker's where docker has them.
//!
//! Values that need more than a `FromStr` are turned into a request by the modules below.

mod annotations;
mod build;
mod filter;
mod git;
mod groups;
mod limits;
mod mounts;
mod outputs;
mod values;

use std::path::PathBuf;
use std::time::SystemTime;

use clap::{Args, Parser, Subcommand, ValueEnum};
use engine::UsageRow;

use crate::format::Format;

use groups::Group;

pub(crate) use build::{BuildArgs, Environment, parse_platform};
use filter::UsageFilter;
pub(crate) use limits::{LimitArgs, RunLimitArgs};
pub(crate) use mounts::ulimit;
pub(crate) use values::{parse_duration, parse_size};

/// A Dockerfile compiler: reproducible OCI images without a daemon.
#[derive(Parser)]
#[command(
    name = "kiln",
    version,
    about,
    max_term_width = 100,
    disable_help_subcommand = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// The same with kiln's own spelling of the command.
    pub(crate) fn plain(self) -> Cli {
        let command = match self.command {
            Command::Group(group) => group.command(),
            command => command,
        };
        Cli { command, ..self }
    }
}

/// Flags of every command.
#[derive(Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Directory of images and cache [default: /var/lib/kiln for root, $XDG_DATA_HOME/kiln otherwise]
    #[arg(long, global = true, env = "KILN_ROOT", value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Configuration file [default: ~/.config/kiln/config.toml, then /etc/kiln/config.toml]
    #[arg(long, global = true, env = "KILN_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Build an image from a Dockerfile
    Build(Box<BuildArgs>),
    /// Run a command in a new container, in the foreground
    Run(Box<RunArgs>),
    /// Download an image from a registry
    Pull(PullArgs),
    /// Upload an image to a registry
    Push(PushArgs),
    /// Load images from an archive: docker save's, or an OCI layout
    Load(LoadArgs),
    /// Write images to an archive that kiln load and docker load take
    Save(SaveArgs),
    /// List images
    Images(ImagesArgs),
    /// Give an image another name
    Tag(TagArgs),
    /// Remove images
    Rmi(RmiArgs),
    /// Show an image's details as JSON
    Inspect(InspectArgs),
    /// Show how two images differ: config, layers, files
    Diff(DiffArgs),
    /// Show the layers and instructions of an image
    History(HistoryArgs),
    /// Show what the cache holds
    Du(DuArgs),
    /// Remove cache that is not in use
    Prune(PruneArgs),
    /// Verify the store and drop what is damaged
    Doctor,
    /// Show version and what this machine lets kiln do
    Info,
    /// Keep the name and password for a registry, where docker keeps them
    Login(LoginArgs),
    /// Forget the name and password for a registry
    Logout(LogoutArgs),
    /// Show the version
    Version(VersionArgs),
    #[command(flatten)]
    Group(Group),
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressMode {
    /// A live view on a terminal, plain lines elsewhere.
    #[default]
    Auto,
    /// A live view.
    Tty,
    /// One line an event.
    Plain,
    /// JSON lines.
    #[value(alias = "rawjson")]
    Json,
    /// Nothing but errors.
    #[value(alias = "none")]
    Quiet,
}

#[derive(Args)]
#[command(
    disable_help_flag = true,
    override_usage = "kiln run [OPTIONS] <IMAGE> [COMMAND]..."
)]
pub(crate) struct RunArgs {
    /// Print help (-h is the host name, as in docker)
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// Remove the container when it ends: what happens anyway (accepted for docker's sake)
    #[arg(long)]
    pub(crate) rm: bool,
    /// Set an environment variable; without a value, pass on the caller's
    #[arg(short, long = "env", value_name = "K[=V]")]
    pub(crate) env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Working directory [default: the image's]
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// User, and group if not the user's, as names or ids [default: the image's]
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,
    /// Command in place of the image's ENTRYPOINT
    #[arg(long, value_name = "COMMAND")]
    pub(crate) entrypoint: Option<String>,
    /// Pass standard input to the command
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Network of the container
    #[arg(
        long,
        visible_alias = "net",
        value_name = "MODE",
        value_enum,
        default_value_t
    )]
    pub(crate) network: RunNetworkArg,
    /// Host name of the container
    #[arg(short = 'h', long, value_name = "NAME")]
    pub(crate) hostname: Option<String>,
    /// Bind a directory or file of the machine
    #[arg(short, long, value_name = "SOURCE:TARGET[:ro]")]
    pub(crate) volume: Vec<String>,
    /// Device of the machine, or one that a specification describes (vendor.com/class=name)
    #[arg(long, value_name = "SOURCE[:TARGET]|NAME")]
    pub(crate) device: Vec<String>,
    /// Make the root file system read-only
    #[arg(long)]
    pub(crate) read_only: bool,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    #[command(flatten)]
    pub(crate) own_limits: RunLimitArgs,
    /// Limit of the command's processes: NAME=SOFT[:HARD]
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub(crate) ulimit: Vec<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    pub(crate) shm_size: Option<u64>,
    /// When to ask the registry for the image
    #[arg(long, value_name = "POLICY", value_enum, default_value_t)]
    pub(crate) pull: PullPolicy,
    /// Platform of the image [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<String>,
    /// Image to run; then a command and its arguments, in place of the image's CMD
    // One list, since what follows the image is no option even if it looks like one.
    #[arg(value_name = "IMAGE", required = true, trailing_var_arg = true)]
    pub(crate) image_and_command: Vec<String>,
}

/// `--network` of `kiln run`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum RunNetworkArg {
    /// The machine's own network.
    #[default]
    #[value(alias = "default", alias = "bridge")]
    Host,
    /// Loopback only.
    None,
}

/// `--pull` of `kiln run`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum PullPolicy {
    /// Always.
    Always,
    /// When the store does not have it.
    #[default]
    Missing,
    /// Never.
    Never,
}

#[derive(Args)]
pub(crate) struct PullArgs {
    /// Platform to pull [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<String>,
    /// Print the image id only
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Image reference
    pub(crate) image: String,
}

#[derive(Args)]
pub(crate) struct PushArgs {
    /// Print the digest only
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Image reference
    pub(crate) image: String,
}

#[derive(Args)]
pub(crate) struct LoadArgs {
    /// Archive, or folder of a layout [default: standard input]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// Platform to load [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<String>,
    /// Show no progress
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Args)]
pub(crate) struct SaveArgs {
    /// File to write [default: standard output, unless it is a terminal]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Platforms to save [default: all that the store has]
    #[arg(long, value_delimiter = ',', value_name = "OS/ARCH")]
    pub(crate) platform: Vec<String>,
    /// Images: references or ids; a repository without a tag stands for all its tags
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}

#[derive(Args)]
pub(crate) struct ImagesArgs {
    /// Print image ids only
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Do not shorten ids
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Show digests of the manifests that are known
    #[arg(long)]
    pub(crate) digests: bool,
    /// Output as `table` or `json`, or by a Go template; `table TEMPLATE` makes columns
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) format: Format,
    /// Repository, or repository:tag, to list
    pub(crate) repository: Option<String>,
}

#[derive(Args)]
pub(crate) struct TagArgs {
    /// An image: reference or id
    pub(crate) source: String,
    /// The new name: NAME[:TAG]
    pub(crate) target: String,
}

#[derive(Args)]
pub(crate) struct RmiArgs {
    /// Remove every name of an image that is given by id
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Images: references or ids
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}

#[derive(Args)]
pub(crate) struct InspectArgs {
    /// Output as `json`, or by a Go template: {{.Id}}, {{json .Config.Labels}}
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub(crate) format: Format,
    /// Images: references or ids
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}

#[derive(Args)]
pub(crate) struct LoginArgs {
    /// User name
    #[arg(short, long, value_name = "NAME")]
    pub(crate) username: Option<String>,
    /// Password; other users can see it in the list of processes: better --password-stdin
    #[arg(short, long, conflicts_with = "password_stdin")]
    pub(crate) password: Option<String>,
    /// Read the password from standard input
    #[arg(long, requires = "username")]
    pub(crate) password_stdin: bool,
    /// Host of the registry [default: Docker Hub]
    pub(crate) server: Option<String>,
}

#[derive(Args)]
pub(crate) struct LogoutArgs {
    /// Host of the registry [default: Docker Hub]
    pub(crate) server: Option<String>,
}

#[derive(Args)]
pub(crate) struct VersionArgs {
    /// Output as `json`, or by a Go template: {{.Client.Version}}
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub(crate) format: Format,
}

#[derive(Args)]
pub(crate) struct DiffArgs {
    /// Output as text or JSON
    #[arg(long, default_value = "text", value_parser = ["text", "json"])]
    pub(crate) format: String,
    /// An image: reference or id
    pub(crate) one: String,
    /// The image to compare it with
    pub(crate) other: String,
}

#[derive(Args)]
pub(crate) struct HistoryArgs {
    /// Do not shorten instructions
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Output as `table` or `json`, or by a Go template; `table TEMPLATE` makes columns
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) format: Format,
    /// Image: reference or id
    pub(crate) image: String,
}

#[derive(Args)]
pub(crate) struct DuArgs {
    /// Show all that is known of each thing
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Output as `table` or `json`, or by a Go template; `table TEMPLATE` makes columns
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) format: Format,
    #[command(flatten)]
    pub(crate) filters: Filters,
}

#[derive(Args)]
pub(crate) struct PruneArgs {
    /// Remove images without a name too
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Show all that is known of what is removed
    #[arg(short, long)]
    pub(crate) verbose: bool,
    #[command(flatten)]
    pub(crate) filters: Filters,
    /// Remove until the cache takes at most this much
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    pub(crate) max_used_space: Option<u64>,
    /// Remove until this much of the disk is free
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    pub(crate) min_free_space: Option<u64>,
    /// Keep this much cache, whatever else is asked for
    #[arg(long, visible_alias = "keep-storage", value_name = "BYTES", value_parser = parse_size)]
    pub(crate) reserved_space: Option<u64>,
}

/// What is shown or removed: all have to fit.
#[derive(Args)]
pub(crate) struct Filters {
    /// Only what fits: until=24h, inuse, type=regular, description~=REGEX and the like
    ///
    /// Keys are id, parents, description and type, with =, != or, for a regular expression, ~=;
    /// until with a duration; inuse, mutable, immutable, shared and private
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<UsageFilter>,
}

impl Filters {
    /// Whether something fits.
    pub(crate) fn fit(&self, row: &UsageRow, now: SystemTime) -> bool {
        self.filter.iter().all(|filter| filter.fits(row, now))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    /// What `kiln run` takes these arguments for: the user, and the image with its command.
    #[track_caller]
    fn check(arguments: &str, user: Option<&str>, image_and_command: &str) {
        let words = ["kiln", "run"].into_iter().chain(arguments.split(' '));
        let Command::Run(run) = Cli::try_parse_from(words).unwrap().command else {
            panic!("{arguments} is something else");
        };
        assert_eq!(run.user.as_deref(), user, "{arguments}");
        assert_eq!(run.image_and_command.join(" "), image_and_command);
    }

    #[test]
    fn what_follows_the_image_is_the_commands() {
        check("--rm -u 5 i", Some("5"), "i");
        check("i -c x -u 5 --help", None, "i -c x -u 5 --help");
        check("-i -u 5 i sh -c x", Some("5"), "i sh -c x");
        check("-- i -- x", None, "i -- x");
        let refused = |arguments: &[&str]| Cli::try_parse_from(arguments).is_err();
        assert!(refused(&["kiln", "run"]), "no image");
        assert!(
            refused(&["kiln", "run", "--nonsense", "i"]),
            "no such option"
        );
    }
}
