//! The repository role: keeps chunks durable and decides alone what is deleted
