"""A page in the browser: a job's networks beside bicubic on a clip that is dropped onto it."""
