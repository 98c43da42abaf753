"""The files of a repository as bytes, after the specification of borg 1.x. Pure: nothing here opens a file."""
