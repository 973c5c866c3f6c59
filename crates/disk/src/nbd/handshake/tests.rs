//! Conversations, word by word.

use proptest::prelude::*;

use super::*;

const GREETING: &[u8] = b"NBDMAGICIHAVEOPT\0\x03";

fn wishes(tls: bool) -> Wishes {
    Wishes {
        export: "disk".into(),
        tls,
    }
}

/// An answer to an option, as a server writes it.
fn answer(option: u32, kind: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = 0x0003_e889_0455_65a9_u64.to_be_bytes().to_vec();
    bytes.extend(option.to_be_bytes());
    bytes.extend(kind.to_be_bytes());
    bytes.extend((body.len() as u32).to_be_bytes());
    bytes.extend(body);
    bytes
}

fn export_info(length: u64, flags: u16) -> Vec<u8> {
    let mut body = vec![0, 0];
    body.extend(length.to_be_bytes());
    body.extend(flags.to_be_bytes());
    answer(7, 3, &body)
}

const REFUSED: u32 = (1 << 31) + 1;

/// All that a server says, given to a client in the pieces that it wants. Gives what the client
/// said, what it came to, and how much of the server's words it took.
fn talk(tls: bool, server: &[Vec<u8>]) -> (Vec<Vec<u8>>, Result<Option<Export>, NbdError>, usize) {
    let mut handshake = Handshake::new(wishes(tls)).expect("good wishes");
    let words = server.concat();
    let (mut said, mut at) = (Vec::new(), 0);
    loop {
        let Some(next) = words.get(at..at + handshake.wanted()) else {
            return (said, Ok(None), at);
        };
        at += next.len();
        let steps = match handshake.take(next) {
            Ok(steps) => steps,
            Err(error) => return (said, Err(error), at),
        };
        for step in steps {
            match step {
                Step::Read(bytes) => assert_eq!(bytes, handshake.wanted()),
                Step::Send(bytes) => said.push(bytes),
                Step::StartTls => said.push(b"TLS".to_vec()),
                Step::Done(export) => return (said, Ok(Some(export)), at),
            }
        }
    }
}

#[test]
fn a_modern_server_agrees_to_everything() {
    let mut context = 9u32.to_be_bytes().to_vec();
    context.extend(b"base:allocation");
    let server = [
        GREETING.to_vec(),
        answer(8, 1, &[]),
        answer(10, 4, &context),
        answer(10, 1, &[]),
        export_info(1 << 20, 0x0103),
        answer(7, 3, &[0, 3, 0, 0, 2, 0, 0, 0, 16, 0, 0, 16, 0, 0]),
        answer(7, 1, &[]),
    ];
    let (said, outcome, _) = talk(false, &server);
    let export = outcome.expect("agrees").expect("ends");
    let want = Export {
        length: 1 << 20,
        abilities: Abilities(0x0103),
        block_bytes: 512,
        request_bytes_max: 1 << 20,
        structured: true,
        allocation: Some(9),
    };
    assert_eq!(export, want);
    let mut hello = vec![0, 0, 0, 3];
    hello.extend(wire::option(OptionKind::STRUCTURED_REPLY, &[]));
    assert_eq!(said[0], hello);
    assert_eq!(said.len(), 3);
}

#[test]
fn an_old_server_does_with_simple_answers() {
    let server = [
        GREETING.to_vec(),
        answer(8, REFUSED, b"what?"),
        export_info(512, 1),
        answer(7, 1, &[]),
    ];
    let export = talk(false, &server).1.expect("agrees").expect("ends");
    assert!(!export.structured && export.allocation.is_none());
    assert_eq!(
        (export.block_bytes, export.request_bytes_max),
        (1, 32 << 20)
    );
}

#[test]
fn without_tls_nothing_is_said_that_was_to_be_secret() {
    // Refused, and by one that goes on as if nothing was asked.
    for reply in [
        answer(5, REFUSED, &[]),
        answer(8, 1, &[]),
        answer(5, 3, &[]),
    ] {
        let (said, outcome, _) = talk(true, &[GREETING.to_vec(), reply]);
        assert!(outcome.is_err());
        let all = said.concat();
        assert_eq!(all.len(), 4 + 16, "only the wish for tls");
        assert!(!all.windows(4).any(|part| part == b"disk"));
    }
    let outcome = talk(true, &[GREETING.to_vec(), answer(5, REFUSED, &[])]).1;
    assert!(matches!(outcome, Err(NbdError::NoTls { .. })));
}

#[test]
fn what_comes_behind_the_answer_to_starttls_is_left_to_tls() {
    let injected = answer(8, 1, &[]);
    let server = [GREETING.to_vec(), answer(5, 1, &[])];
    let length = server.concat().len();
    let mut handshake = Handshake::new(wishes(true)).expect("good wishes");
    let (mut at, words) = (0, [server.concat(), injected].concat());
    let steps = loop {
        let next = &words[at..at + handshake.wanted()];
        at += next.len();
        let steps = handshake.take(next).expect("goes on");
        if steps.contains(&Step::StartTls) {
            break steps;
        }
    };
    assert_eq!(at, length, "not a byte more was taken");
    assert_eq!(steps[0], Step::StartTls);
}

#[track_caller]
fn check_refused(server: &[Vec<u8>], words: &str) {
    let server = [&[GREETING.to_vec(), answer(8, REFUSED, &[])], server].concat();
    let error = talk(false, &server).1.expect_err("refused");
    assert!(error.to_string().contains(words), "{error}");
}

#[test]
fn servers_that_talk_nonsense_are_left() {
    check_refused(
        &[answer(7, (1 << 31) + 6, b"no 'disk' here")],
        "no such export: no 'disk' here",
    );
    check_refused(&[answer(7, (1 << 31) + 5, &[])], "demands tls");
    check_refused(&[answer(7, 1, &[])], "answers an option wrongly");
    check_refused(&[answer(8, 1, &[])], "answers what was not asked");
    check_refused(&[answer(7, 77, &[])], "answers an option wrongly");
    let endless: Vec<Vec<u8>> = (0..100).map(|_| answer(7, 3, &[0, 2])).collect();
    check_refused(&endless, "does not come to an end");
}

#[test]
fn names_that_no_export_has_are_refused_before_anything_is_said() {
    for export in ["a".repeat(4097), "a\0b".into()] {
        assert!(Handshake::new(Wishes { export, tls: false }).is_err());
    }
}

proptest! {
    #[test]
    fn no_words_make_a_client_panic_or_read_without_end(
        tls in any::<bool>(),
        parts in proptest::collection::vec((0..12u32, 0..6u32, any::<bool>(), proptest::collection::vec(any::<u8>(), 0..40)), 0..100),
        tail in any::<Vec<u8>>(),
    ) {
        let mut server = vec![GREETING.to_vec()];
        for (option, kind, error, body) in parts {
            server.push(answer(option, kind | u32::from(error) << 31, &body));
        }
        server.push(tail);
        let (said, _, _) = talk(tls, &server);
        prop_assert!(said.len() <= 8);
    }
}
