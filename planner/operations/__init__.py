"""One class per thing that can be done to a domain, its memory or one of its disks."""
