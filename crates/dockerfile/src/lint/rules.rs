//! The table of build checks, and sets of them.

/// When a check is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// Unless it is skipped.
    Warning,
    /// Only when `# check=experimental=` names it.
    Experimental,
}

/// What there is to know about a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleInfo {
    /// The rule.
    pub rule: Rule,
    /// Name as `# check=skip=` takes it.
    pub name: &'static str,
    /// One sentence: what it finds.
    pub description: &'static str,
    /// When it is reported.
    pub level: Level,
}

macro_rules! rules {
    ($($rule:ident, $level:ident, $description:literal;)*) => {
        /// A build check. The first 22 are BuildKit's, the rest kiln's own.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rule {
            $(#[doc = $description] $rule,)*
        }

        impl Rule {
            /// Every rule, in the order of the table.
            pub const TABLE: &'static [RuleInfo] = &[
                $(RuleInfo {
                    rule: Rule::$rule,
                    name: stringify!($rule),
                    description: $description,
                    level: Level::$level,
                },)*
            ];
        }
    };
}

rules! {
    StageNameCasing, Warning, "A stage name should be in lower case.";
    FromAsCasing, Warning, "FROM and AS should be written in the same case.";
    NoEmptyContinuation, Warning, "An empty line inside a continued instruction is a future error.";
    ConsistentInstructionCasing, Warning, "All instruction keywords should be written in the same case.";
    DuplicateStageName, Warning, "Two stages should not have the same name.";
    ReservedStageName, Warning, "A stage should not have a name that means something else.";
    JSONArgsRecommended, Warning, "CMD and ENTRYPOINT should be JSON arrays, so that signals reach the process.";
    MaintainerDeprecated, Warning, "MAINTAINER is deprecated in favour of a label.";
    UndefinedArgInFrom, Warning, "FROM should use only arguments that are declared before it.";
    WorkdirRelativePath, Warning, "A relative WORKDIR depends on the base image, unless another WORKDIR came before it.";
    UndefinedVar, Warning, "A variable should be declared before it is used.";
    MultipleInstructionsDisallowed, Warning, "Only the last CMD, ENTRYPOINT or HEALTHCHECK of a stage has an effect.";
    LegacyKeyValueFormat, Warning, "ENV and LABEL should be written with an equals sign.";
    InvalidBaseImagePlatform, Warning, "The base image is for another platform than the one asked for.";
    RedundantTargetPlatform, Warning, "The target platform is the default platform of FROM.";
    SecretsUsedInArgOrEnv, Warning, "Secrets should not be passed in ARG or ENV, because they stay in the image.";
    InvalidDefaultArgInFrom, Warning, "The default values of global arguments should make a valid base image name.";
    FromPlatformFlagConstDisallowed, Warning, "FROM should not have a constant platform.";
    CopyIgnoredFile, Warning, "A file that the ignore file excludes cannot be copied.";
    InvalidDefinitionDescription, Experimental, "A comment that describes a stage or an argument should start with its name.";
    ExposeProtoCasing, Warning, "The protocol of EXPOSE should be in lower case.";
    ExposeInvalidFormat, Warning, "EXPOSE should name no address and no host port.";
    IgnorePatternMatchesNothing, Warning, "A pattern of the ignore file matches no file.";
    ChownDuplicatesCopy, Warning, "A RUN that only changes owner or mode of copied files stores them a second time.";
}

impl Rule {
    /// Returns the rule's row of the table.
    pub fn info(self) -> &'static RuleInfo {
        &Rule::TABLE[self as usize]
    }

    /// Returns the rule's name.
    pub fn name(self) -> &'static str {
        self.info().name
    }

    /// Finds a rule by its name, ignoring case.
    pub fn by_name(name: &str) -> Option<Rule> {
        Rule::TABLE
            .iter()
            .find(|row| row.name.eq_ignore_ascii_case(name))
            .map(|row| row.rule)
    }
}

/// A set of rules.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct RuleSet(u32);

impl RuleSet {
    /// Every rule.
    pub const ALL: RuleSet = RuleSet(u32::MAX);

    /// Adds a rule.
    pub fn insert(&mut self, rule: Rule) {
        self.0 |= 1 << rule as u32;
    }

    /// Tells whether a rule is in the set.
    pub fn contains(self, rule: Rule) -> bool {
        self.0 & (1 << rule as u32) != 0
    }

    /// Tells whether no rule is in the set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the rules that are in either set.
    #[must_use]
    pub fn union(self, other: RuleSet) -> RuleSet {
        RuleSet(self.0 | other.0)
    }
}

impl std::fmt::Debug for RuleSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let members = Rule::TABLE.iter().filter(|row| self.contains(row.rule));
        f.debug_set().entries(members.map(|row| row.rule)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enum() {
        for (at, row) in Rule::TABLE.iter().enumerate() {
            assert_eq!(row.rule as usize, at);
            assert_eq!(Rule::by_name(&row.name.to_uppercase()), Some(row.rule));
        }
        assert!(
            Rule::TABLE.len() <= u32::BITS as usize,
            "RuleSet is too small"
        );
    }
}
