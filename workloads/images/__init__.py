"""Images: data sets × architectures, each pair a workload of its own.

- `image_classification`: what all share: inputs, the conditions of the randomization tests, labels.
- `architectures`, `resnet`: perceptron, convolutions, residual network, each by width.
- `mnist`, `fashion_mnist`, `cifar10`: the data sets, and their pairs (digits: `workloads.digits`).
- `idx_files`, `cifar_files`: the formats that they come in.
"""
