use super::*;
use stillwater_types::VcenterId;

fn vm() -> VmFacts {
    VmFacts {
        vm: VmId {
            vcenter: VcenterId::from_bytes([7; 16]),
            moref: "vm-16".into(),
        },
        vcenter: "vc1".into(),
        name: "sql-01".into(),
        folder: "/Berlin/vm/Production/Databases".into(),
        cluster: Some("Cluster 1".into()),
        resource_pool: Some("/Berlin/host/Cluster 1/Resources/Gold".into()),
        tags: vec![Tag {
            category: "Backup".into(),
            name: "Gold".into(),
        }],
        disks: vec![
            DiskFacts {
                key: 2000,
                label: "Hard disk 1".into(),
            },
            DiskFacts {
                key: 2001,
                label: "Hard disk 2".into(),
            },
        ],
        template: false,
    }
}

fn scope(text: &str) -> Scope {
    toml::from_str(text).expect("is a scope")
}

#[track_caller]
fn check(clause: &str, expected: bool) {
    let scope = scope(&format!("include = [{{ {clause} }}]"));
    assert_eq!(scope.verdict(&vm()).is_in(), expected, "{clause}");
}

#[test]
fn each_key_tells_vms_apart() {
    check("folder = '/Berlin/vm/Production'", true);
    check("folder = '/Berlin/vm/Prod'", false);
    check("cluster = 'cluster 1'", true);
    check("cluster = 'Cluster 2'", false);
    check("resource-pool = '/Berlin/host/Cluster 1/Resources'", true);
    check("resource-pool = '/Berlin/host/Cluster 2'", false);
    check("tag = 'Backup/Gold'", true);
    check("tag = 'Backup/*'", true);
    check("tag = 'Site/Gold'", false);
    check("tag = 'Backup/Silver'", false);
    check("vcenter = 'vc1'", true);
    check("vcenter = 'vc2'", false);
    check("name = 'SQL-*'", true);
    check("name = 'web-*'", false);
    check(&format!("vm = '{}'", vm().vm), true);
    check("vm = '07070707-0707-0707-0707-070707070707/vm-17'", false);
}

#[test]
fn all_keys_of_a_clause_must_fit_and_an_empty_one_fits_nothing() {
    check("tag = 'Backup/Gold', name = 'sql-*'", true);
    check("tag = 'Backup/Gold', name = 'web-*'", false);
    check("", false);
}

#[test]
fn a_verdict_names_the_clause_that_decided() {
    let scope = scope(
        "include = [{ name = 'web-*' }, { tag = 'Backup/Gold' }]\nexclude = [{ name = '*-99' }]",
    );
    assert_eq!(scope.verdict(&vm()).to_string(), "in: tag \"Backup/Gold\"");
    let mut last = vm();
    last.name = "sql-99".into();
    let told = scope.verdict(&last).to_string();
    assert_eq!(told, "out: excluded by name \"*-99\"");
    last.tags.clear();
    last.name = "sql-98".into();
    assert_eq!(scope.verdict(&last), Verdict::Outside);
    let template = VmFacts {
        template: true,
        ..vm()
    };
    assert_eq!(scope.verdict(&template), Verdict::Template);
}

#[test]
fn a_disk_is_left_out_by_name_and_never_the_vm_with_it() {
    let left_out = |clause: &str| -> Vec<i32> {
        let scope = scope(&format!(
            "include = [{{ name = '*' }}]\nexclude-disks = [{{ {clause} }}]"
        ));
        match scope.verdict(&vm()) {
            Verdict::In { disks, .. } => disks
                .iter()
                .filter(|disk| disk.excluded_by.is_some())
                .map(|disk| disk.key)
                .collect(),
            out => panic!("{out}"),
        }
    };
    assert_eq!(left_out("name = 'sql-*', label = 'Hard disk 2'"), [2001]);
    assert!(left_out("name = 'web-*', label = 'Hard disk 2'").is_empty());
    assert_eq!(left_out("key = 2000"), [2000]);
    assert_eq!(left_out("label = '*'"), [2000, 2001]);
    assert!(
        left_out("name = 'sql-*'").is_empty(),
        "says of no disk which one"
    );
}
