"""Pictures of a run."""
def write_report(run, data_dir=None):
    return None
