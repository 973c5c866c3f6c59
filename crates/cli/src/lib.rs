//! The administrator's tool stillwater
