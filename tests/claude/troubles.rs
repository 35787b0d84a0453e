//! The real CLI cannot ask the model: what a client gets is a code and a sentence, never an empty answer.

use serde_json::{Value, json};

use crate::{
    setup::{Setup, builder, start},
    support::fake_api::FakeApi,
};

fn setup(
    api: FakeApi,
    change: impl FnOnce(crate::support::server::Builder) -> crate::support::server::Builder,
) -> Setup {
    let server = change(builder(&api)).start();
    let client = server.connect(Value::Null);
    let session = client.session_id();
    Setup { client, session, server, api }
}

impl Setup {
    /// Asks what fails for that reason, with the sentence everywhere where a client may look.
    fn assert_trouble(&self, prompt: &str, code: &str, part: &str) {
        let response = self.ask_and_wait(prompt);
        assert_eq!((&response["status"], &response["code"]), (&json!("failed"), &json!(code)), "{prompt}: {response}");
        let sentence = response["error"].as_str().expect("a sentence");
        assert!(sentence.contains(part), "{prompt}: {sentence}");
        assert_ne!(response["fullResponse"], "", "{response}");
        let failure = &self.summary()["failure"];
        assert_eq!((&failure["code"], &failure["message"]), (&json!(code), &json!(sentence)));
        let of_prompt = |notice: &&Value| notice["promptId"] == response["promptId"] && notice["level"] == "error";
        let notices = self.client.events_named("notice");
        let codes: Vec<&Value> = notices.iter().filter(of_prompt).map(|notice| &notice["code"]).collect();
        assert_eq!(codes, [code], "{prompt}");
    }
}

#[test]
fn without_a_login_the_user_is_told_to_log_in() {
    let on = setup(FakeApi::start(), |builder| builder.env("ANTHROPIC_API_KEY", ""));
    on.assert_trouble("say:hello", "not_logged_in", "run `claude` in a terminal");
    assert_eq!(on.api.turns().len(), 0);
}

#[test]
fn what_the_api_refuses_has_a_code_and_a_sentence() {
    // Otherwise it is tried ten times, for three minutes.
    let on = setup(FakeApi::start(), |builder| builder.env("CLAUDE_CODE_MAX_RETRIES", "0"));
    for (prompt, code, part) in [
        ("error:401:invalid x-api-key", "bad_key", "log in"),
        ("error:429:slow down", "api_rate_limited", "wait"),
        ("error:529:Overloaded", "overloaded", "in a moment"),
        ("error:404:model: no-such-model", "model_refused", "choose another"),
        ("error:400:prompt is too long: 250000 tokens > 200000 maximum", "prompt_too_long", "/compact"),
        ("error:400:Your credit balance is too low to access the Anthropic API", "billing", "balance"),
        ("error:400:no such thing", "api_error", "no such thing"),
    ] {
        on.assert_trouble(prompt, code, part);
    }
    assert_eq!(on.answer("say:fine"), "fine");
    assert_eq!(on.summary()["failure"], Value::Null);
}

#[test]
fn without_a_network_the_user_is_told_so() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
    let on = setup(FakeApi::start(), |builder| {
        builder.env("ANTHROPIC_BASE_URL", format!("http://{nobody}")).env("CLAUDE_CODE_MAX_RETRIES", "1")
    });
    on.assert_trouble("say:hello", "no_network", "check the network");
    let notices = on.client.events_named("notice");
    assert_eq!((&notices[0]["code"], &notices[0]["level"]), (&json!("no_network"), &json!("warning")), "{notices:?}");
}

/// The key is refused, and the CLI tries again for minutes: a client sees why it waits, and can stop it.
#[test]
fn while_claude_tries_again_a_client_sees_why() {
    let on = start();
    let prompt = on.ask("error:401:invalid x-api-key");
    let notice = on.client.wait_event("notice", |_| true);
    assert_eq!((&notice["code"], &notice["level"]), (&json!("bad_key"), &json!("warning")), "{notice}");
    on.client.wait_event("sessionUpdated", |data| data["retrying"]["attempt"] == 2);
    on.interrupt();
    assert_eq!(on.client.wait_response(&prompt)["status"], "interrupted");
    assert_eq!(on.summary()["retrying"], Value::Null);
    let notices = on.client.events_named("notice");
    assert_eq!(notices.len(), 1, "one for all attempts: {notices:?}");
}
