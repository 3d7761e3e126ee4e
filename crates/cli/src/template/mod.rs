//! `--format`: Go's text templates, as far as docker's users write them, over JSON values.
//!
//! Actions: fields (`.Config.Env`), `$`, variables of `range`, strings, numbers, `true`, `false`, `nil`, pipelines,
//! parentheses, `if`/`else if`/`else`, `range`, `with`, comments, `{{-` and `-}}`. Functions: those of
//! [`functions`], with docker's names. Not here: `define`, `template`, `block`, assignments of variables.
//! Values print as Go prints them; maps are walked in the order of their keys.

mod eval;
mod functions;
mod parse;
mod scan;

use serde_json::Value;

pub(crate) use eval::RenderError;
pub(crate) use parse::{ParseError, Template};

impl Template {
    /// The text that the template makes of a value.
    ///
    /// # Errors
    /// When a field, an element or a variable does not exist, or a function cannot take its arguments.
    pub(crate) fn render(&self, value: &Value) -> Result<String, RenderError> {
        eval::render(self.nodes(), value)
    }
}

#[cfg(test)]
mod tests {
    use super::Template;
    use serde_json::json;

    #[track_caller]
    fn check(template: &str, expected: &str) {
        let image = json!({
            "Id": "sha256:0123456789abcdef",
            "Size": 12,
            "RepoDigests": ["a@sha256:1", "b@sha256:2"],
            "Config": {
                "Cmd": null,
                "Env": ["A=1", "B=2"],
                "Labels": {"b": "2", "a.b": "1"},
                "User": "",
            },
        });
        let found = match template.parse::<Template>() {
            Ok(template) => template
                .render(&image)
                .unwrap_or_else(|error| format!("error: {error}")),
            Err(error) => format!("error: {error}"),
        };
        assert_eq!(found, expected, "{template}");
    }

    #[test]
    fn values_print_as_go_prints_them() {
        check("{{.Id}} {{.Size}}", "sha256:0123456789abcdef 12");
        check("{{.Config.Env}}", "[A=1 B=2]");
        check("{{.Config.Labels}}", "map[a.b:1 b:2]");
        check("{{.Config.Cmd}}", "<no value>");
        check(
            "{{true}} {{\"x\\ty\"}} {{`raw\\n`}} {{-3}}",
            "true x\ty raw\\n -3",
        );
    }

    #[test]
    fn functions_take_arguments_and_pipelines() {
        check("{{json .Config.Env}}", r#"["A=1","B=2"]"#);
        check("{{.Config.Labels | json}}", r#"{"a.b":"1","b":"2"}"#);
        check("{{index .RepoDigests 0}}", "a@sha256:1");
        check("{{index .Config.Labels \"a.b\"}}", "1");
        check("{{index .Config.Labels \"none\"}}", "<no value>");
        check("{{(index .RepoDigests 1) | upper}}", "B@SHA256:2");
        check("{{join .Config.Env \", \"}}", "A=1, B=2");
        check("{{len .RepoDigests}}", "2");
        check("{{slice .Id 7 11}} {{truncate .Id 6}}", "0123 sha256");
        check("{{index (split .Id \":\") 0}}", "sha256");
        check("{{println .Size}}{{print 1 2}}", "12\n1 2");
        check(
            "{{printf \"%s has %d of %v, 100%%\" \"x\" .Size true}}",
            "x has 12 of true, 100%",
        );
        check(
            "{{eq .Size 12}} {{ne .Size 12}} {{not .Config.User}}",
            "true false true",
        );
        check("{{or .Config.User \"root\"}} {{and .Id .Size}}", "root 12");
    }

    #[test]
    fn blocks_choose_and_repeat() {
        check(
            "{{if .Config.User}}user{{else if .Size}}size{{else}}none{{end}}",
            "size",
        );
        check("{{range .Config.Env}}<{{.}}>{{end}}", "<A=1><B=2>");
        check("{{range .Config.Cmd}}x{{else}}empty{{end}}", "empty");
        check(
            "{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}",
            "a.b=1;b=2;",
        );
        check(
            "{{range $v := .Config.Env}}{{$v}}{{$.Size}}{{end}}",
            "A=112B=212",
        );
        check(
            "{{with .Config}}{{.Env}}{{end}}{{with .Config.Cmd}}x{{else}}y{{end}}",
            "[A=1 B=2]y",
        );
    }

    #[test]
    fn white_space_and_comments_go_as_asked() {
        check("a {{- .Size -}}  b{{/* said nothing */}}", "a12b");
        check("{{ \"}}\" }}", "}}");
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        check(
            "{{.Config.Evn}}",
            "error: no field Evn in .Config: did you mean Env?",
        );
        check("{{.Size.X}}", "error: no field X in .Size: it is a number");
        check(
            "{{index .RepoDigests 7}}",
            "error: index: no element 7 among 2",
        );
        check(
            "{{nofn .Id}}",
            "error: character 3: there is no function nofn",
        );
        check("a {{.Id", "error: character 3: {{ without }}");
        check("{{if .Id}}x", "error: character 1: if without end");
        check(
            "x{{end}}",
            "error: character 4: end without if, range or with",
        );
        check(
            "{{.Id | }}",
            "error: character 9: a value or function is missing",
        );
        check("{{$x}}", "error: character 3: there is no variable $x");
        check(
            "{{template \"x\"}}",
            "error: character 3: template is not supported in --format",
        );
        check("{{\"abc}}", "error: character 3: the text does not end");
        check("{{len .Size}}", "error: len: a number has no length");
    }
}
