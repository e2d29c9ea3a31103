"""Networks of plain torch.nn, written as users and torchvision write them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


def conv3x3(inputs, outputs, stride=1):
    return nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)


class BasicBlock(nn.Module):
    def __init__(self, inputs, outputs, stride=1, downsample=None):
        super().__init__()
        self.conv1 = conv3x3(inputs, outputs, stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = conv3x3(outputs, outputs)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = downsample
        self.stride = stride

    def forward(self, x):
        identity = x
        out = self.conv1(x)
        out = self.bn1(out)
        out = self.relu(out)
        out = self.conv2(out)
        out = self.bn2(out)
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        out = self.relu(out)
        return out


class ResNet(nn.Module):
    def __init__(self, blocks, classes=1000, width=64):
        super().__init__()
        self.inputs = width
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layer1 = self._make_layer(width, blocks[0])
        self.layer2 = self._make_layer(2 * width, blocks[1], 2)
        self.layer3 = self._make_layer(4 * width, blocks[2], 2)
        self.layer4 = self._make_layer(8 * width, blocks[3], 2)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(8 * width, classes)

    def _make_layer(self, outputs, blocks, stride=1):
        downsample = None
        if stride != 1 or self.inputs != outputs:
            downsample = nn.Sequential(nn.Conv2d(self.inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        layers = [BasicBlock(self.inputs, outputs, stride, downsample)]
        self.inputs = outputs
        layers += [BasicBlock(outputs, outputs) for _ in range(1, blocks)]
        return nn.Sequential(*layers)

    def _forward_impl(self, x):
        x = self.conv1(x)
        x = self.bn1(x)
        x = self.relu(x)
        x = self.maxpool(x)
        x = self.layer1(x)
        x = self.layer2(x)
        x = self.layer3(x)
        x = self.layer4(x)
        x = self.avgpool(x)
        x = torch.flatten(x, 1)
        return self.fc(x)

    def forward(self, x):
        return self._forward_impl(x)


def resnet18(classes=5, width=4):
    return ResNet((2, 2, 2, 2), classes, width)


def resnet34(classes=5, width=4):
    return ResNet((3, 4, 6, 3), classes, width)


class VGG(nn.Module):
    """VGG-16 (configuration D), its widths divided by ``shrink``."""

    def __init__(self, classes=5, batch_norm=False, shrink=16, side=7):
        super().__init__()
        layers, inputs = [], 3
        for width in (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"):
            if width == "M":
                layers += [nn.MaxPool2d(kernel_size=2, stride=2)]
                continue
            outputs = width // shrink
            layers += [nn.Conv2d(inputs, outputs, kernel_size=3, padding=1)]
            layers += [nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)] if batch_norm else [nn.ReLU(inplace=True)]
            inputs = outputs
        dense = 4096 // shrink
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((side, side))
        self.classifier = nn.Sequential(
            nn.Linear(inputs * side * side, dense), nn.ReLU(True), nn.Dropout(p=0.5),
            nn.Linear(dense, dense), nn.ReLU(True), nn.Dropout(p=0.5),
            nn.Linear(dense, classes),
        )  # fmt: skip

    def forward(self, x):
        x = self.features(x)
        x = self.avgpool(x)
        x = torch.flatten(x, 1)
        x = self.classifier(x)
        return x


def mlp():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(12, 9), nn.BatchNorm1d(9), nn.Tanh(), nn.Linear(9, 8), nn.LayerNorm(8), nn.GELU(),
        nn.Identity(), nn.Linear(8, 4),
    )  # fmt: skip


class Functional(nn.Module):
    """One of every function between layers."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)
        self.fc1 = nn.Linear(48, 16)
        self.fc2 = nn.Linear(16, 5)
        self.relu = nn.LeakyReLU(0.2)  # a functional relu below must not take its name

    def forward(self, x, scale=2.0, mask=None):
        x = F.leaky_relu(self.conv1(x), 0.1)
        x = F.max_pool2d(x, 2)
        y = self.conv2(x)
        y += x
        y = F.relu(y, inplace=True)
        y = y * scale - x / 4
        y = torch.cat([y, F.silu(x), torch.tanh(x), x.relu(), F.elu(x), F.gelu(-x)], dim=1)
        pooled = F.avg_pool2d(y, y.size()[2:])
        z = pooled.view(pooled.size(0), -1)
        z = z + y.mean([2, 3]) + F.adaptive_avg_pool2d(y, 1).squeeze(3).squeeze(-1)
        z = F.dropout(z, 0.5, training=self.training)
        z = self.relu(self.fc1(z))
        batch, features = z.shape
        z = z.reshape(batch, features // 2, 2).permute(0, 2, 1).transpose(1, 2).contiguous().flatten(1)
        return self.fc2(z.unsqueeze(1)[:, 0])
