"""Tasks, methods, teachers and the pipeline that turns a plan into examples."""
