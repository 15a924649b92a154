"""The conformance suites: what a study relies on, checked on any workload with pytest.

In a test file of your own, beside the workload:

    from workloads.testing import WorkloadConformance

    class TestMine(WorkloadConformance):
        workload = Mine

`SelfTrainedConformance` is the one of workloads with a training loop of their own. The class must
be defined at the top level of a module, because the suites also look at it from a fresh process.
The attributes below the workload adapt a suite to a task; few need any.
"""

from workloads.testing.self_trained import SelfTrainedConformance
from workloads.testing.workload import WorkloadConformance

__all__ = ["SelfTrainedConformance", "WorkloadConformance"]
