"""A race for the rows of a database: a gateway that writes them, somebody who repairs them, and a reader."""
