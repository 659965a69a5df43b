"""Where a case runs: the :class:`~lorabench.device.protocol.Device` protocol and its three implementations."""
