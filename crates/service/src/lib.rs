//! What every role does around its work: config, telemetry, health, drain, systemd
