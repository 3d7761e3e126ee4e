//! The steps, as data: what a Dockerfile says after `FROM base`, and the files that it copies.

/// One row of the table.
pub(super) struct Step {
    /// A word for the command line, tags and directories.
    pub(super) name: &'static str,
    /// How the row is called.
    pub(super) title: &'static str,
    /// The Dockerfile; its last instruction makes the layer that is compared.
    pub(super) dockerfile: &'static str,
    /// Files of the context.
    pub(super) files: &'static [(&'static str, &'static str)],
}

/// Debian's packages that the steps need; the base image has them.
pub(super) const PACKAGES: &[&str] = &[
    "gcc",
    "libc6-dev",
    "python3-pip",
    "npm",
    "golang-go",
    "cargo",
    "ca-certificates",
];

/// Those whose versions the table tells.
pub(super) const TOLD: &[&str] = &["apt", "gcc", "python3-pip", "npm", "golang-go", "cargo"];

const NPM: &[(&str, &str)] = &[
    (
        "package.json",
        r#"{"name": "app", "version": "1.0.0", "dependencies": {"semver": "7.6.3"}}"#,
    ),
    (
        "package-lock.json",
        r#"{
  "name": "app", "version": "1.0.0", "lockfileVersion": 3, "requires": true,
  "packages": {
    "": {"name": "app", "version": "1.0.0", "dependencies": {"semver": "7.6.3"}},
    "node_modules/semver": {
      "version": "7.6.3",
      "resolved": "https://registry.npmjs.org/semver/-/semver-7.6.3.tgz",
      "integrity": "sha512-oVekP1cKtI+CTDvHWYFUcMtsK/00wmAEfyqKfNdARm8u1wNVhSgaX7A8d4UuIlUI5e84iEwOhs7ZPYRmzU9U6A==",
      "license": "ISC",
      "bin": {"semver": "bin/semver.js"},
      "engines": {"node": ">=10"}
    }
  }
}"#,
    ),
];
const CARGO: &[(&str, &str)] = &[
    (
        "Cargo.toml",
        "[package]\nname = \"app\"\nversion = \"1.0.0\"\nedition = \"2021\"\n",
    ),
    (
        "Cargo.lock",
        "version = 3\n\n[[package]]\nname = \"app\"\nversion = \"1.0.0\"\n",
    ),
    ("src/main.rs", "fn main() {\n    println!(\"hello\");\n}\n"),
];
const GO: &[(&str, &str)] = &[
    ("go.mod", "module example.org/app\n\ngo 1.19\n"),
    (
        "main.go",
        "package main\n\nimport \"fmt\"\n\nfunc main() { fmt.Println(\"hello\") }\n",
    ),
];
const C: &[(&str, &str)] = &[(
    "main.c",
    "#include <stdio.h>\nint main(void) { puts(\"hello\"); return 0; }\n",
)];
const C_DATED: &[(&str, &str)] = &[(
    "main.c",
    "#include <stdio.h>\nint main(void) { puts(__DATE__ \" \" __TIME__); return 0; }\n",
)];

/// Every row. A secret brings the machine's certificates to steps that speak TLS, so that they
/// work behind a proxy that speaks it in the place of the registries.
pub(super) const STEPS: &[Step] = &[
    Step {
        name: "apt",
        title: "`apt-get update && apt-get install -y hello`",
        dockerfile: "FROM base\n\
            RUN apt-get update && apt-get install -y --no-install-recommends hello",
        files: &[],
    },
    Step {
        name: "apt-clean",
        title: "the same `&& rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/ldconfig/aux-cache \
            /var/log/apt /var/log/dpkg.log`",
        dockerfile: "FROM base\n\
            RUN apt-get update && apt-get install -y --no-install-recommends hello && rm -rf /var/lib/apt/lists/* \
            /var/cache/apt/*.bin /var/cache/ldconfig/aux-cache /var/log/apt /var/log/dpkg.log",
        files: &[],
    },
    Step {
        name: "pip",
        title: "`pip install flask==3.0.3`",
        dockerfile: "FROM base\n\
            RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
            pip install --break-system-packages flask==3.0.3",
        files: &[],
    },
    Step {
        name: "pip-clean",
        title: "`pip install --no-cache-dir flask==3.0.3`",
        dockerfile: "FROM base\n\
            RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
            pip install --break-system-packages --no-cache-dir flask==3.0.3",
        files: &[],
    },
    Step {
        name: "npm",
        title: "`npm ci`",
        dockerfile: "FROM base\nWORKDIR /app\nCOPY . .\n\
            ENV NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt\n\
            RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt npm ci",
        files: NPM,
    },
    Step {
        name: "npm-mount",
        title: "the same with `--mount=type=cache,target=/root/.npm`",
        dockerfile: "FROM base\nWORKDIR /app\nCOPY . .\n\
            ENV NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt\n\
            RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
            --mount=type=cache,target=/root/.npm npm ci",
        files: NPM,
    },
    Step {
        name: "cargo",
        title: "`cargo build --release`",
        dockerfile: "FROM base\nWORKDIR /src\nCOPY . .\nRUN cargo build --release --offline",
        files: CARGO,
    },
    Step {
        name: "cargo-mount",
        title: "`cargo install --path . --root /usr/local` with `--mount=type=cache,target=target`",
        dockerfile: "FROM base\nWORKDIR /src\nCOPY . .\n\
            RUN --mount=type=cache,target=/src/target \
            cargo install --offline --no-track --path . --root /usr/local",
        files: CARGO,
    },
    Step {
        name: "go",
        title: "`go build -o /usr/local/bin/app`",
        dockerfile: "FROM base\nWORKDIR /src\nCOPY . .\nRUN go build -o /usr/local/bin/app",
        files: GO,
    },
    Step {
        name: "go-mount",
        title: "the same with `--mount=type=cache,target=/root/.cache`",
        dockerfile: "FROM base\nWORKDIR /src\nCOPY . .\n\
            RUN --mount=type=cache,target=/root/.cache go build -o /usr/local/bin/app",
        files: GO,
    },
    Step {
        name: "gcc",
        title: "`gcc -O2 -o /usr/local/bin/app main.c`",
        dockerfile: "FROM base\nWORKDIR /src\nCOPY . .\nRUN gcc -O2 -o /usr/local/bin/app main.c",
        files: C,
    },
    Step {
        name: "gcc-dated",
        title: "the same of a program with `__DATE__` and `__TIME__`",
        dockerfile: "FROM base\nWORKDIR /src\nCOPY . .\nRUN gcc -O2 -o /usr/local/bin/app main.c",
        files: C_DATED,
    },
    Step {
        name: "gcc-epoch",
        title: "the same after `ARG SOURCE_DATE_EPOCH=1700000000`",
        dockerfile: "FROM base\nWORKDIR /src\nCOPY . .\nARG SOURCE_DATE_EPOCH=1700000000\n\
            RUN gcc -O2 -o /usr/local/bin/app main.c",
        files: C_DATED,
    },
];
