"""What tests share: databases, services in this process, drivers."""
